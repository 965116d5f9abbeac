#include "base/mapped_file.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <fstream>
#include <string>

#include "base/check.h"
#include "temporary_folder.h"

using lmrun::base::Error;
using lmrun::base::MappedFile;
using lmrun::base::read_text_file;
using lmrun::testing::TemporaryFolder;

TEST_CASE("a mapped file shows its bytes, also after a move") {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/file";
  std::ofstream(path) << "abc";
  MappedFile file(path);
  const MappedFile moved(std::move(file));
  REQUIRE(moved.bytes().size() == 3);
  CHECK(moved.bytes()[2] == std::byte{'c'});
}

TEST_CASE("what cannot be mapped is named") {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/file";
  CHECK_THROWS_WITH_AS(MappedFile{path},
                       (path + ": cannot open: No such file or directory.").c_str(), Error);
  std::ofstream(path).close();
  CHECK_THROWS_WITH_AS(MappedFile{path}, (path + ": the file is empty.").c_str(), Error);
  CHECK_THROWS_WITH_AS(MappedFile{folder.path()},
                       (folder.path() + ": expected a plain file.").c_str(), Error);
}

TEST_CASE("a pipe is refused at once, not waited for") {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/pipe";
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  CHECK_THROWS_WITH_AS(read_text_file(path, 5), (path + ": expected a plain file.").c_str(), Error);
}

TEST_CASE("a text file longer than the limit is refused") {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/file";
  std::ofstream(path) << "12345";
  CHECK(read_text_file(path, 5) == "12345");
  CHECK_THROWS_WITH_AS(read_text_file(path, 4),
                       (path + ": 5 bytes; expected at most 4 of text.").c_str(), Error);
}
