// The index of a safetensors file whose bytes are not trusted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace lmrun::workspace {

enum class Dtype : uint8_t { kF32, kF16, kBf16, kU8, kI32 };

const char* dtype_name(Dtype dtype);
int64_t dtype_bytes(Dtype dtype);

struct TensorEntry {
  Dtype dtype = Dtype::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;  // views the file
};

using TensorIndex = std::map<std::string, TensorEntry, std::less<>>;

// Checks header, dtypes, shapes and offsets: the tensors are contiguous and fill the file exactly,
// each starts on a multiple of 64 bytes of the file, and the file's size is one of 2 MiB. Names
// that begin with `__pad__.` are left out. `where` begins each message. Throws base::Error.
TensorIndex read_safetensors(std::span<const std::byte> file, const std::string& where);

}  // namespace lmrun::workspace
