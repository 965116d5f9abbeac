#include "base/residency.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace lmrun::base {
namespace {

constexpr uint64_t kPresent = uint64_t{1} << 63;
constexpr size_t kPagesAtOnce = 4096;

// Linux 5.14; older C libraries do not name them.
constexpr int kPopulateRead = 22;
constexpr int kPopulateWrite = 23;

}  // namespace

std::optional<size_t> resident_bytes(std::span<const std::byte> memory) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<uintptr_t>(memory.data());
  uintptr_t next = address / page;
  const uintptr_t end = (address + memory.size() + page - 1) / page;
  const int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (file < 0) return std::nullopt;
  std::vector<uint64_t> entries(kPagesAtOnce);
  size_t resident = 0;
  while (next < end) {
    const size_t wanted = std::min<size_t>(kPagesAtOnce, end - next);
    const ssize_t got = pread(file, entries.data(), wanted * sizeof(uint64_t),
                              static_cast<off_t>(next * sizeof(uint64_t)));
    if (got < static_cast<ssize_t>(sizeof(uint64_t))) {
      close(file);
      return std::nullopt;
    }
    const size_t count = static_cast<size_t>(got) / sizeof(uint64_t);
    for (size_t i = 0; i < count; ++i) resident += (entries[i] & kPresent) != 0 ? page : 0;
    next += count;
  }
  close(file);
  return resident;
}

#if defined(__linux__)

void populate_for_reading(std::span<const std::byte> memory) {
  if (memory.empty()) return;
  madvise(const_cast<std::byte*>(memory.data()), memory.size(), kPopulateRead);
}

void populate_for_writing(std::span<std::byte> memory) {
  if (memory.empty()) return;
  madvise(memory.data(), memory.size(), kPopulateWrite);
}

#else

void populate_for_reading(std::span<const std::byte> /*memory*/) {}
void populate_for_writing(std::span<std::byte> /*memory*/) {}

#endif

}  // namespace lmrun::base
