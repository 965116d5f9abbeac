// The memory of the KV blocks.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lmrun::cache {

// One region of zeros, on a boundary of 2 MiB, in huge pages where the system has them; a page
// takes memory when it is first written. Throws base::Error where the address space is not to be
// had.
class KvPool {
 public:
  KvPool(int64_t num_blocks, int64_t block_bytes);
  ~KvPool();
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* mapping_ = nullptr;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace lmrun::cache
