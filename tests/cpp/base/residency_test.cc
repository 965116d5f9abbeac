#include "base/residency.h"

#include <doctest/doctest.h>
#include <sys/mman.h>

#include <cstddef>
#include <span>

namespace {

class Mapping {
 public:
  explicit Mapping(size_t bytes)
      : memory_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)),
        bytes_(bytes) {
    REQUIRE(memory_ != MAP_FAILED);
    madvise(memory_, bytes_, MADV_NOHUGEPAGE);
  }
  ~Mapping() { munmap(memory_, bytes_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::span<std::byte> bytes() { return {static_cast<std::byte*>(memory_), bytes_}; }

 private:
  void* memory_;
  size_t bytes_;
};

constexpr size_t kPage = 4096;

}  // namespace

TEST_CASE("pages become resident when they are touched, one by one") {
  Mapping mapping(10 * kPage);
  const auto before = lmrun::base::resident_bytes(mapping.bytes());
  if (!before) return;  // a system without /proc/self/pagemap says nothing
  CHECK(*before == 0);
  mapping.bytes()[0] = std::byte{1};
  mapping.bytes()[7 * kPage + 5] = std::byte{1};
  CHECK(lmrun::base::resident_bytes(mapping.bytes()) == 2 * kPage);
}

TEST_CASE("a span that ends inside a page counts that page") {
  Mapping mapping(3 * kPage);
  for (size_t page = 0; page < 3; ++page) mapping.bytes()[page * kPage] = std::byte{1};
  const auto found = lmrun::base::resident_bytes(mapping.bytes().subspan(0, kPage + 1));
  if (found) CHECK(*found == 2 * kPage);
}

TEST_CASE("more pages than one read of the page map holds are all counted") {
  constexpr size_t kBytes = 9000 * kPage;
  Mapping mapping(kBytes);
  for (size_t at = 0; at < kBytes; at += kPage) mapping.bytes()[at] = std::byte{1};
  const auto found = lmrun::base::resident_bytes(mapping.bytes());
  if (found) CHECK(*found == kBytes);
}

TEST_CASE("populated memory is resident before anything touches it") {
  Mapping mapping(100 * kPage);
  lmrun::base::populate_for_writing(mapping.bytes());
  const auto found = lmrun::base::resident_bytes(mapping.bytes());
  if (found) CHECK(*found == 100 * kPage);
}

TEST_CASE("an empty span has no pages") {
  lmrun::base::populate_for_reading({});
  lmrun::base::populate_for_writing({});
  const auto found = lmrun::base::resident_bytes({});
  if (found) CHECK(*found == 0);
}
