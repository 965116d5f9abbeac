// A file mapped for reading.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace lmrun::base {

class MappedFile {
 public:
  // Throws Error naming the file where it is missing, empty or not a plain file. Pages are read
  // when touched, in huge pages where the file system has them. The bytes begin on a boundary of
  // 2 MiB.
  explicit MappedFile(std::string path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  // Valid while this lives.
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // Of the open file, for reading at an offset; valid while this lives.
  int descriptor() const { return fd_; }

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  int fd_ = -1;
};

// The whole of a small text file. Throws Error naming the file where it is missing or longer than
// `max_bytes`.
std::string read_text_file(const std::string& path, size_t max_bytes);

}  // namespace lmrun::base
