// Packed layouts: the only C++ description of workspace matrices and KV blocks.
// Its Python twin is lmrun/quant/packing.py; csrc/workspace/README.md and csrc/cache/README.md say
// the same in words.
#pragma once

#include <cstddef>
#include <cstdint>

// Methods here are called from files compiled for other instruction sets. Always inlined, no object
// file holds a copy of one that the linker could pick for the whole program.
#define LMRUN_INLINE_METHOD [[gnu::always_inline]] inline

namespace lmrun::quant {

// Output features of a tile, and the tile's bytes per row of words.
inline constexpr int64_t kTileFeatures = 16;
inline constexpr int64_t kTileBytes = 64;
// Input features of a 4-bit tile row.
inline constexpr int64_t kU4TileInputs = 8;
// Input features of an 8-bit tile row.
inline constexpr int64_t kU8TileInputs = 4;

enum class WeightFormat : uint8_t { kF32, kF16, kBf16, kU4 };

// One row of a 4-bit tile: 16 output features x 8 input features.
struct U4TileRow {
  uint8_t bytes[kTileFeatures][4];
};
static_assert(sizeof(U4TileRow) == kTileBytes);  // 4 bits per weight, scales apart

// View of a matrix [n, k] in a mapped workspace; valid while the workspace is mapped.
struct PackedMatrix {
  WeightFormat format = WeightFormat::kF32;
  int64_t n = 0;           // output features, without padding
  int64_t k = 0;           // input features
  int64_t group_size = 0;  // kU4 only
  const std::byte* weight = nullptr;
  const uint16_t* scale = nullptr;  // f16 [tiles, k / group_size, 16], kU4 only
  const uint8_t* zero = nullptr;    // [tiles, k / group_size, 16], kU4 only
  const float* bias = nullptr;      // [n] or null

  LMRUN_INLINE_METHOD int64_t num_tiles() const { return (n + kTileFeatures - 1) / kTileFeatures; }
  LMRUN_INLINE_METHOD int64_t num_groups() const { return group_size == 0 ? 0 : k / group_size; }
  LMRUN_INLINE_METHOD int64_t tile_bytes() const {
    switch (format) {
      case WeightFormat::kF32:
        return k * kTileBytes;
      case WeightFormat::kF16:
      case WeightFormat::kBf16:
        return (k + 1) / 2 * kTileBytes;
      case WeightFormat::kU4:
        return k / kU4TileInputs * kTileBytes;
    }
    return 0;
  }
};

// Shape of the KV blocks of a rank.
struct KvLayout {
  int64_t num_layers = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;    // D
  int64_t block_size = 0;  // P, tokens
  int bits = 16;           // 32, 16, 8, 4

  LMRUN_INLINE_METHOD bool has_params() const { return bits < 16; }
  LMRUN_INLINE_METHOD int64_t code_bytes() const { return head_dim * bits / 8; }  // of one vector
  LMRUN_INLINE_METHOD int64_t part_bytes() const {  // K or V of one head and layer
    return block_size * (code_bytes() + (has_params() ? 4 : 0));
  }
  LMRUN_INLINE_METHOD int64_t block_bytes() const {
    return num_layers * num_kv_heads * 2 * part_bytes();
  }
  // Offset in a block of the K part of a layer and head; the V part follows at part_bytes().
  LMRUN_INLINE_METHOD int64_t head_offset(int64_t layer, int64_t kv_head) const {
    return (layer * num_kv_heads + kv_head) * 2 * part_bytes();
  }
  // Offset in a part of the params {f16 scale, f16 zero} of token 0.
  LMRUN_INLINE_METHOD int64_t params_offset() const { return block_size * code_bytes(); }
};

}  // namespace lmrun::quant
