#include "base/huge_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <span>
#include <utility>

#include "base/residency.h"

namespace lmrun::base {

#if defined(__linux__)

namespace {

// Each chunk stays a mapping of its own, and a process has 65530 of them.
constexpr size_t kLeastChunk = 2 * kHugePage;
constexpr size_t kMostChunks = 8192;

size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Fresh memory on a boundary of 2 MiB that asks for huge pages; null where there is none.
class HugeMemory {
 public:
  explicit HugeMemory(size_t bytes) : bytes_(bytes) {
    const size_t reserved = bytes + kHugePage;
    void* mapping =
        mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) return;
    auto* const begin = static_cast<std::byte*>(mapping);
    const size_t before = round_up(reinterpret_cast<uintptr_t>(begin), kHugePage) -
                          reinterpret_cast<uintptr_t>(begin);
    data_ = begin + before;
    if (before > 0) munmap(begin, before);
    munmap(data_ + bytes, kHugePage - before);
    madvise(data_, bytes, MADV_HUGEPAGE);
  }
  ~HugeMemory() {
    if (data_ != nullptr) munmap(data_, bytes_);
  }
  HugeMemory(const HugeMemory&) = delete;
  HugeMemory& operator=(const HugeMemory&) = delete;

  std::byte* data() { return data_; }
  std::span<std::byte> bytes() { return {data_, data_ == nullptr ? 0 : bytes_}; }

  // Takes the place of what is mapped at `address`; whether it did.
  bool move_to(const std::byte* address) {
    // As the file's pages are: a stray write must fault.
    if (mprotect(data_, bytes_, PROT_READ) != 0) return false;
    void* const target = const_cast<std::byte*>(address);
    if (mremap(data_, bytes_, bytes_, MREMAP_MAYMOVE | MREMAP_FIXED, target) == MAP_FAILED) {
      return false;
    }
    data_ = nullptr;
    return true;
  }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_;
};

bool read_all(int fd, size_t offset, std::span<std::byte> into) {
  size_t got = 0;
  while (got < into.size()) {
    const ssize_t count =
        pread(fd, into.data() + got, into.size() - got, static_cast<off_t>(offset + got));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    got += static_cast<size_t>(count);
  }
  return true;
}

}  // namespace

bool gives_huge_pages() {
  HugeMemory memory(2 * kHugePage);
  for (size_t at = 0; at < memory.bytes().size(); at += kHugePage) memory.data()[at] = std::byte{1};
  return huge_page_bytes(memory.bytes()).value_or(0) > 0;
}

void HugePageMove::move_all() {
  const std::span<const std::byte> file = file_.bytes();
  const size_t size = file.size() / kHugePage * kHugePage;
  const size_t chunk = std::max(kLeastChunk, round_up(size / kMostChunks, kHugePage));
  for (size_t begin = 0; begin < size; begin += chunk) {
    if (is_stopping_.load(std::memory_order_relaxed)) return;
    const std::span<const std::byte> mapped = file.subspan(begin, std::min(chunk, size - begin));
    populate_for_reading(mapped);
    if (is_in_huge_pages(mapped)) continue;
    HugeMemory memory(mapped.size());
    if (memory.data() == nullptr || !read_all(file_.descriptor(), begin, memory.bytes())) return;
    if (!memory.move_to(mapped.data())) return;
    moved_bytes_.fetch_add(mapped.size(), std::memory_order_relaxed);
  }
}

#else

bool gives_huge_pages() { return false; }
void HugePageMove::move_all() {}

#endif

HugePageMove::HugePageMove(const MappedFile& file) : file_(file), thread_([this] { move_all(); }) {}

HugePageMove::~HugePageMove() {
  is_stopping_.store(true, std::memory_order_relaxed);
  wait();
}

void HugePageMove::wait() {
  if (thread_.joinable()) thread_.join();
}

}  // namespace lmrun::base
