#include "cache/kv_pool.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace lmrun::cache {

KvPool::KvPool(int64_t num_blocks, int64_t block_bytes) {
  LMRUN_CHECK(num_blocks > 0 && block_bytes > 0 &&
                  !__builtin_mul_overflow(static_cast<size_t>(num_blocks),
                                          static_cast<size_t>(block_bytes), &bytes_),
              "cache: " << num_blocks << " blocks of " << block_bytes
                        << " bytes are more than memory can address.");
  void* data = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  LMRUN_CHECK(data != MAP_FAILED,
              "cache: cannot map " << bytes_ << " bytes: " << std::strerror(errno) << ".");
  data_ = static_cast<std::byte*>(data);
  // Advice only: where there are no huge pages the pool is slower, not wrong.
  madvise(data_, bytes_, MADV_HUGEPAGE);
}

KvPool::~KvPool() { munmap(data_, bytes_); }

}  // namespace lmrun::cache
