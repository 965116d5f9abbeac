#include "base/huge_pages.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "base/mapped_file.h"
#include "base/residency.h"
#include "temporary_folder.h"

using lmrun::base::gives_huge_pages;
using lmrun::base::HugePageMove;
using lmrun::base::kHugePage;
using lmrun::base::MappedFile;
using lmrun::testing::TemporaryFolder;

namespace {

std::string numbered_file(const TemporaryFolder& folder, size_t bytes) {
  std::vector<uint32_t> words(bytes / sizeof(uint32_t));
  for (size_t i = 0; i < words.size(); ++i) words[i] = static_cast<uint32_t>(i * 2654435761U);
  const std::string path = folder.path() + "/file";
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(words.data()), static_cast<std::streamsize>(bytes));
  return path;
}

bool is_numbered(std::span<const std::byte> bytes) {
  for (size_t i = 0; i < bytes.size() / sizeof(uint32_t); ++i) {
    uint32_t word = 0;
    std::memcpy(&word, bytes.data() + i * sizeof(word), sizeof(word));
    if (word != static_cast<uint32_t>(i * 2654435761U)) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("a moved file shows the same bytes at the same addresses, in huge pages") {
  const TemporaryFolder folder;
  const size_t size = 5 * kHugePage + 4096;
  const MappedFile file(numbered_file(folder, size));
  CHECK(reinterpret_cast<uintptr_t>(file.bytes().data()) % kHugePage == 0);
  const std::byte* const before = file.bytes().data();
  HugePageMove move(file);
  move.wait();
  CHECK(file.bytes().data() == before);
  CHECK(is_numbered(file.bytes()));
#if defined(__linux__)
  CHECK(move.moved_bytes() <= 5 * kHugePage);  // the rest is no whole page
  if (gives_huge_pages()) {
    CHECK(lmrun::base::huge_page_bytes(file.bytes()) == 5 * kHugePage);
    CHECK(lmrun::base::resident_bytes(file.bytes()) == size);
  }
#endif
}

TEST_CASE("threads that read while a file moves see its bytes all the time") {
  const TemporaryFolder folder;
  const MappedFile file(numbered_file(folder, 16 * kHugePage));
  std::atomic<bool> is_done{false};
  std::atomic<bool> was_wrong{false};
  std::thread reader([&] {
    while (!is_done.load()) {
      if (!is_numbered(file.bytes())) was_wrong.store(true);
    }
  });
  {
    HugePageMove move(file);
    move.wait();
  }
  is_done.store(true);
  reader.join();
  CHECK_FALSE(was_wrong.load());
}

TEST_CASE("a move that is given up leaves every byte in place") {
  const TemporaryFolder folder;
  const MappedFile file(numbered_file(folder, 16 * kHugePage));
  {
    const HugePageMove move(file);
  }
  CHECK(is_numbered(file.bytes()));
}

TEST_CASE("a file that was cut short moves as far as it goes") {
  const TemporaryFolder folder;
  const std::string path = numbered_file(folder, 16 * kHugePage);
  const MappedFile file(path);
  REQUIRE(truncate(path.c_str(), 8 * kHugePage + 100) == 0);
  HugePageMove move(file);
  move.wait();
  CHECK(move.moved_bytes() <= 8 * kHugePage);
  CHECK(is_numbered(file.bytes().subspan(0, 8 * kHugePage)));
}

TEST_CASE("a file smaller than a huge page stays where it is") {
  const TemporaryFolder folder;
  const MappedFile file(numbered_file(folder, 4096));
  HugePageMove move(file);
  move.wait();
  CHECK(move.moved_bytes() == 0);
  CHECK(is_numbered(file.bytes()));
}
