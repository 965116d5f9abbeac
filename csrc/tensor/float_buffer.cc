#include "tensor/float_buffer.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/residency.h"

namespace lmrun::tensor {
namespace {

constexpr int64_t kMaxFloats = int64_t{1} << 42;

}  // namespace

FloatBuffer::FloatBuffer(int64_t size) : size_(size) {
  LMRUN_CHECK(size >= 0 && size < kMaxFloats, "activations: " << size << " floats are too many.");
  if (size == 0) return;
  const size_t bytes = static_cast<size_t>(size) * sizeof(float);
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  LMRUN_CHECK(data != MAP_FAILED,
              "activations: cannot map " << bytes << " bytes: " << std::strerror(errno) << ".");
  data_ = static_cast<float*>(data);
  madvise(data, bytes, MADV_HUGEPAGE);
  base::populate_for_writing({static_cast<std::byte*>(data), bytes});
}

FloatBuffer::~FloatBuffer() {
  if (data_ != nullptr) munmap(data_, static_cast<size_t>(size_) * sizeof(float));
}

FloatBuffer::FloatBuffer(FloatBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

FloatBuffer& FloatBuffer::operator=(FloatBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace lmrun::tensor
