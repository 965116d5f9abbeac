// Memory for activations.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lmrun::tensor {

// Floats on a page boundary, zero at first, in huge pages where the system has them. They take
// their memory at once, so that no step waits for the kernel to clear a page and the peak is known
// from the start. Throws base::Error where the address space is not to be had.
class FloatBuffer {
 public:
  FloatBuffer() = default;
  explicit FloatBuffer(int64_t size);
  ~FloatBuffer();
  FloatBuffer(FloatBuffer&& other) noexcept;
  FloatBuffer& operator=(FloatBuffer&& other) noexcept;
  FloatBuffer(const FloatBuffer&) = delete;
  FloatBuffer& operator=(const FloatBuffer&) = delete;

  float* data() { return data_; }
  const float* data() const { return data_; }
  int64_t size() const { return size_; }

 private:
  float* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace lmrun::tensor
