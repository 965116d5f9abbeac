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
  ~OpenFile() {
    if (fd_ >= 0) close(fd_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  int fd() const { return fd_; }
  size_t size() const { return size_; }
  // The caller closes it.
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
  size_t size_ = 0;
};

// On a boundary of 2 MiB: huge pages can only stand there. Null with errno where it fails.
const std::byte* map_aligned(int fd, size_t size) {
  constexpr size_t kBoundary = size_t{2} << 20;
  void* const reserved = mmap(nullptr, size + kBoundary, PROT_NONE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(reserved);
  const size_t before = (kBoundary - reinterpret_cast<uintptr_t>(begin) % kBoundary) % kBoundary;
  std::byte* const data = begin + before;
  if (mmap(data, size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
    const int reason = errno;
    munmap(reserved, size + kBoundary);
    errno = reason;
    return nullptr;
  }
  if (before > 0) munmap(begin, before);
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  std::byte* const end = data + (size + page - 1) / page * page;
  if (end < begin + size + kBoundary) {
    munmap(end, static_cast<size_t>(begin + size + kBoundary - end));
  }
  return data;
}

}  // namespace

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  OpenFile file(path_);
  if (file.size() == 0) throw Error(concat(path_, ": the file is empty."));
  data_ = map_aligned(file.fd(), file.size());
  if (data_ == nullptr) {
    throw Error(concat(path_, ": cannot map ", file.size(), " bytes: ", std::strerror(errno), "."));
  }
  size_ = file.size();
  fd_ = file.release();
  // Advice only: few file systems have huge pages.
  madvise(const_cast<std::byte*>(data_), size_, MADV_HUGEPAGE);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      fd_(std::exchange(other.fd_, -1)) {}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  munmap(const_cast<std::byte*>(data_), size_);
  close(fd_);
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
