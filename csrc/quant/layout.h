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

// Input features whose products of int8 weights and int8 inputs surely sum up in int32.
inline constexpr int64_t kMostI8Inputs = int64_t{1} << 17;
// What an int8 weight is stored as is itself plus this.
inline constexpr int32_t kI8Offset = 128;
// Sums over more inputs than this are cut, so that a long group is no single chain of additions.
inline constexpr int64_t kMostBlockInputs = int64_t{1} << 10;
// Linears that a matrix stacks, at most: q, k and v.
inline constexpr int64_t kMostParts = 3;

// kU4, kU8: codes in groups with zero points; kI8: rows of int8 that meet inputs of int8.
enum class WeightFormat : uint8_t { kF32, kF16, kBf16, kU4, kU8, kI8 };

// One row of a 4-bit tile: 16 output features x 8 input features.
struct U4TileRow {
  uint8_t bytes[kTileFeatures][4];
};
static_assert(sizeof(U4TileRow) == kTileBytes);  // 4 bits per weight, scales apart

// One row of an 8-bit tile: 16 output features x 4 input features.
struct U8TileRow {
  uint8_t codes[kTileFeatures][kU8TileInputs];
};
static_assert(sizeof(U8TileRow) == kTileBytes);  // 8 bits per weight, scales apart

// Where the columns of a matrix are permuted: input k of the codes is input order[k] of x, for the
// tiles before `tile_end` that no part before has.
struct OrderedPart {
  const int32_t* order = nullptr;  // [k], a permutation
  int64_t tile_end = 0;
};

// View of a matrix [n, k] in a mapped workspace; valid while the workspace is mapped.
struct PackedMatrix {
  WeightFormat format = WeightFormat::kF32;
  int64_t n = 0;           // output features, without padding
  int64_t k = 0;           // input features
  int64_t group_size = 0;  // kU4, kU8
  const std::byte* weight = nullptr;
  // kU4, kU8: one of the two, [tiles, k / group_size, 16]; kI8: scale32 [tiles, 16].
  const uint16_t* scale16 = nullptr;  // f16
  const float* scale32 = nullptr;
  const uint8_t* zero = nullptr;  // kU4, kU8: [tiles, k / group_size, 16]
  const float* bias = nullptr;    // [n] or null
  OrderedPart parts[kMostParts];  // the last one ends at num_tiles()
  int64_t num_parts = 0;          // 0: columns in the order of x

  LMRUN_INLINE_METHOD bool has_groups() const {
    return format == WeightFormat::kU4 || format == WeightFormat::kU8;
  }
  LMRUN_INLINE_METHOD int64_t num_tiles() const { return (n + kTileFeatures - 1) / kTileFeatures; }
  LMRUN_INLINE_METHOD int64_t num_groups() const { return group_size == 0 ? 0 : k / group_size; }
  // Inputs of one chain of additions: a group, or an even part of one that is long. A multiple of 8
  // that divides the group; 0 without groups.
  LMRUN_INLINE_METHOD int64_t block_inputs() const {
    if (group_size == 0) return 0;
    int64_t parts_of_group = (group_size + kMostBlockInputs - 1) / kMostBlockInputs;
    while (group_size % (kU4TileInputs * parts_of_group) != 0) ++parts_of_group;
    return group_size / parts_of_group;
  }
  LMRUN_INLINE_METHOD int64_t num_blocks() const {
    return group_size == 0 ? 0 : k / block_inputs();
  }
  LMRUN_INLINE_METHOD int64_t tile_bytes() const {
    switch (format) {
      case WeightFormat::kF32:
        return k * kTileBytes;
      case WeightFormat::kF16:
      case WeightFormat::kBf16:
        return (k + 1) / 2 * kTileBytes;
      case WeightFormat::kU4:
        return k / kU4TileInputs * kTileBytes;
      case WeightFormat::kU8:
      case WeightFormat::kI8:
        return (k + kU8TileInputs - 1) / kU8TileInputs * kTileBytes;
    }
    return 0;
  }
};

// Rows of inputs in int8: x[r, k] is about codes[r * stride + k] * scale[r].
struct QuantizedRows {
  int8_t* codes = nullptr;  // -127 .. 127; 0 from k to the stride
  int64_t stride = 0;       // quantized_stride(k)
  float* scale = nullptr;   // [rows]
  int32_t* sum = nullptr;   // [rows], of the codes of a row
};

// Bytes of a row of `k` int8 inputs: whole cache lines, an odd number of them, so that rows side by
// side do not share the ways of one L1 set.
LMRUN_INLINE_METHOD int64_t quantized_stride(int64_t k) {
  return (((k + kTileBytes - 1) / kTileBytes) | 1) * kTileBytes;
}

// Digits of an input that meets codes, at most.
inline constexpr int64_t kMostDigits = 3;

// Digits that `backend.activation_bits` (32, 16 or 8) stands for.
LMRUN_INLINE_METHOD int64_t digits_of(int64_t activation_bits) {
  return activation_bits == 32 ? 3 : activation_bits / 8;
}

// Rows of inputs in signed digits of 8 bits, with a unit for each block of a row:
//   x[r, k] is about unit[r, k / block] * sum over d of 256^d * digit d of (r, k)
// Made for one matrix: `block` is its block_inputs().
struct DigitRows {
  int8_t* digits = nullptr;  // digit d of row r begins at (r * num_digits + d) * stride, d = 0 the
                             // lowest; 0 from k to the stride
  int64_t num_digits = 0;    // 1, 2 or 3: fixed point of 8, 16 or 24 bits
  int64_t stride = 0;        // quantized_stride(k)
  int64_t block = 0;         // inputs
  float* unit = nullptr;     // [rows, k / block]
  float* sum = nullptr;      // [rows, k / block], of a block's inputs as the digits say them
};

// Positions whose K lies interleaved, and those whose codes of V do: what one instruction of a
// kernel takes together. Block sizes are multiples of the first.
inline constexpr int64_t kKvKeysTogether = 16;
inline constexpr int64_t kKvValuesTogether = 4;

// One layer's part of the KV blocks of a rank. csrc/cache/README.md says the same in words.
struct KvLayout {
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;      // D
  int64_t block_size = 0;    // P, tokens
  int bits = 16;             // 32, 16, 8, 4
  int64_t layer_offset = 0;  // of the layer in a block
  int64_t block_bytes = 0;   // of a block, all layers

  LMRUN_INLINE_METHOD bool has_params() const { return bits < 16; }
  LMRUN_INLINE_METHOD int64_t code_bytes() const { return head_dim * bits / 8; }  // of one vector
  LMRUN_INLINE_METHOD int64_t part_bytes() const {  // K or V of one head
    return block_size * (code_bytes() + (has_params() ? 4 : 0));
  }
  LMRUN_INLINE_METHOD int64_t layer_bytes() const { return num_kv_heads * 2 * part_bytes(); }
  // Offset in a block of the K part of a head; the V part follows at part_bytes().
  LMRUN_INLINE_METHOD int64_t head_offset(int64_t kv_head) const {
    return layer_offset + kv_head * 2 * part_bytes();
  }
  // Bytes of a vector of K that stay together: an element of 16 or 32 bits, four bytes of codes.
  LMRUN_INLINE_METHOD int64_t key_unit() const { return bits == 16 ? 2 : 4; }
  // Offset in a K part of byte `byte` of a slot's vector of codes or elements.
  LMRUN_INLINE_METHOD int64_t key_offset(int64_t slot, int64_t byte) const {
    const int64_t first = slot / kKvKeysTogether * kKvKeysTogether;
    return first * code_bytes() +
           (byte / key_unit() * kKvKeysTogether + slot - first) * key_unit() + byte % key_unit();
  }
  // The same in a V part.
  LMRUN_INLINE_METHOD int64_t value_offset(int64_t slot, int64_t byte) const {
    if (!has_params()) return slot * code_bytes() + byte;
    const int64_t first = slot / kKvValuesTogether * kKvValuesTogether;
    return first * code_bytes() + byte * kKvValuesTogether + slot - first;
  }
  // Offset in a part of the params {f16 scale, f16 zero} of token 0.
  LMRUN_INLINE_METHOD int64_t params_offset() const { return block_size * code_bytes(); }
};

}  // namespace lmrun::quant
