#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/concat.h"

namespace lmrun::base {
namespace {

class OpenFile {
 public:
  // O_NONBLOCK: opening a pipe would wait for a writer; plain files know no such wait.
  explicit OpenFile(const std::string& path)
      : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (fd_ < 0) throw Error(concat(path, ": cannot open: ", std::strerror(errno), "."));
    struct stat info{};
    if (fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode)) {
      close(fd_);
      throw Error(concat(path, ": expected a plain file."));
    }
    size_ = static_cast<size_t>(info.st_size);
  }
  ~OpenFile() { close(fd_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  int fd() const { return fd_; }
  size_t size() const { return size_; }

 private:
  int fd_;
  size_t size_ = 0;
};

}  // namespace

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  const OpenFile file(path_);
  if (file.size() == 0) throw Error(concat(path_, ": the file is empty."));
  void* data = mmap(nullptr, file.size(), PROT_READ, MAP_SHARED, file.fd(), 0);
  if (data == MAP_FAILED) {
    throw Error(concat(path_, ": cannot map ", file.size(), " bytes: ", std::strerror(errno), "."));
  }
  data_ = static_cast<const std::byte*>(data);
  size_ = file.size();
  // Advice only: few file systems have huge pages.
  madvise(data, size_, MADV_HUGEPAGE);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

std::string read_text_file(const std::string& path, size_t max_bytes) {
  const OpenFile file(path);
  if (file.size() > max_bytes) {
    throw Error(
        concat(path, ": ", file.size(), " bytes; expected at most ", max_bytes, " of text."));
  }
  std::string text(file.size(), '\0');
  size_t got = 0;
  while (got < text.size()) {
    const ssize_t count = read(file.fd(), text.data() + got, text.size() - got);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw Error(concat(path, ": cannot read: ", std::strerror(errno), "."));
    if (count == 0) break;
    got += static_cast<size_t>(count);
  }
  text.resize(got);
  return text;
}

}  // namespace lmrun::base
