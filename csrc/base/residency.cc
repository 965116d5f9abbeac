#include "base/residency.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
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

std::optional<size_t> huge_page_bytes(std::span<const std::byte> memory) {
  std::ifstream smaps("/proc/self/smaps");
  if (!smaps) return std::nullopt;
  const auto begin = reinterpret_cast<uintptr_t>(memory.data());
  const uintptr_t end = begin + memory.size();
  size_t inside = 0;  // bytes of the mapping at hand that count
  size_t huge = 0;
  for (std::string line; std::getline(smaps, line);) {
    const size_t dash = line.find('-');
    if (dash < line.find(' ')) {  // a mapping's head: its addresses
      const uintptr_t first = std::strtoull(line.c_str(), nullptr, 16);
      const uintptr_t last = std::strtoull(line.c_str() + dash + 1, nullptr, 16);
      inside = std::max(first, begin) < std::min(last, end)
                   ? std::min(last, end) - std::max(first, begin)
                   : 0;
    } else if (inside > 0 &&
               (line.starts_with("AnonHugePages:") || line.starts_with("FilePmdMapped:"))) {
      const size_t bytes = std::strtoull(line.c_str() + line.find(':') + 1, nullptr, 10) * 1024;
      huge += std::min(bytes, inside);
    }
  }
  return huge;
}

#if defined(__linux__)

namespace {

// The question of PAGEMAP_SCAN; older C libraries do not name it.
struct PageScan {
  uint64_t size = sizeof(PageScan);
  uint64_t flags = 0;
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t walk_end = 0;
  uint64_t regions = 0;  // address of `num_regions` of PageRegion
  uint64_t num_regions = 0;
  uint64_t max_pages = 0;
  uint64_t category_inverted = 0;
  uint64_t category_mask = 0;
  uint64_t category_any_of_mask = 0;
  uint64_t return_mask = 0;
};
struct PageRegion {
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t categories = 0;
};
constexpr unsigned long kPageScan = _IOWR('f', 16, PageScan);
constexpr uint64_t kIsHuge = uint64_t{1} << 6;

}  // namespace

bool is_in_huge_pages(std::span<const std::byte> memory) {
  const int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  PageRegion region;
  PageScan scan;
  scan.start = reinterpret_cast<uintptr_t>(memory.data());
  scan.end = scan.start + memory.size();
  scan.regions = reinterpret_cast<uintptr_t>(&region);
  scan.num_regions = 1;
  scan.category_mask = kIsHuge;
  scan.return_mask = kIsHuge;
  const int found = ioctl(file, kPageScan, &scan);
  close(file);
  return found == 1 && region.start == scan.start && region.end == scan.end;
}

void populate_for_reading(std::span<const std::byte> memory) {
  if (memory.empty()) return;
  madvise(const_cast<std::byte*>(memory.data()), memory.size(), kPopulateRead);
}

void populate_for_writing(std::span<std::byte> memory) {
  if (memory.empty()) return;
  madvise(memory.data(), memory.size(), kPopulateWrite);
}

#else

bool is_in_huge_pages(std::span<const std::byte> /*memory*/) { return false; }
void populate_for_reading(std::span<const std::byte> /*memory*/) {}
void populate_for_writing(std::span<std::byte> /*memory*/) {}

#endif

}  // namespace lmrun::base
