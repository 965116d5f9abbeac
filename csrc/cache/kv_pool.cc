#include "cache/kv_pool.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "base/check.h"

namespace lmrun::cache {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

KvPool::KvPool(int64_t num_blocks, int64_t block_bytes) {
  size_t mapped = 0;
  LMRUN_CHECK(num_blocks > 0 && block_bytes > 0 &&
                  !__builtin_mul_overflow(static_cast<size_t>(num_blocks),
                                          static_cast<size_t>(block_bytes), &bytes_) &&
                  !__builtin_add_overflow(bytes_, kHugePage, &mapped),
              "cache: " << num_blocks << " blocks of " << block_bytes
                        << " bytes are more than memory can address.");
  mapping_ = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  LMRUN_CHECK(mapping_ != MAP_FAILED,
              "cache: cannot map " << bytes_ << " bytes: " << std::strerror(errno) << ".");
  const auto address = reinterpret_cast<uintptr_t>(mapping_);
  data_ = reinterpret_cast<std::byte*>((address + kHugePage - 1) / kHugePage * kHugePage);
  // Advice only: where there are no huge pages the pool is slower, not wrong.
  madvise(data_, bytes_, MADV_HUGEPAGE);
}

KvPool::~KvPool() { munmap(mapping_, bytes_ + kHugePage); }

}  // namespace lmrun::cache
