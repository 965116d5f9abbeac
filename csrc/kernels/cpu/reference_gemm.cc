#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/half.h"
#include "kernels/cpu/reference.h"

namespace lmrun::kernels::reference {
namespace {

using quant::kTileBytes;
using quant::kTileFeatures;
using quant::kU4TileInputs;
using quant::kU8TileInputs;
using quant::PackedMatrix;
using quant::WeightFormat;

constexpr int64_t kFloatBlock = 64;

// One tile row of a float format as f32: inputs[j][n]; the number of inputs is 1 (F32) or 2.
void unpack_tile_row(WeightFormat format, const std::byte* row, float inputs[2][kTileFeatures]) {
  if (format == WeightFormat::kF32) {
    std::memcpy(inputs[0], row, kTileBytes);
    return;
  }
  uint16_t pairs[kTileFeatures][2];
  std::memcpy(pairs, row, kTileBytes);
  for (int64_t n = 0; n < kTileFeatures; ++n) {
    for (int64_t j = 0; j < 2; ++j) {
      inputs[j][n] = format == WeightFormat::kBf16 ? float_from_bf16(pairs[n][j])
                                                   : float_from_f16(pairs[n][j]);
    }
  }
}

// sums[n] = sum of x[k] * w[n, k]: blocks of kFloatBlock inputs, each summed in order of k.
void float_tile(const PackedMatrix& w, const std::byte* tile, const float* x,
                float sums[kTileFeatures]) {
  const int64_t inputs_per_row = w.format == WeightFormat::kF32 ? 1 : 2;
  float inputs[2][kTileFeatures];
  for (int64_t n = 0; n < kTileFeatures; ++n) sums[n] = 0;
  for (int64_t begin = 0; begin < w.k; begin += kFloatBlock) {
    float acc[kTileFeatures] = {};
    for (int64_t k = begin; k < std::min(begin + kFloatBlock, w.k); ++k) {
      const int64_t j = k % inputs_per_row;
      if (j == 0) unpack_tile_row(w.format, tile + k / inputs_per_row * kTileBytes, inputs);
      for (int64_t n = 0; n < kTileFeatures; ++n) acc[n] += x[k] * inputs[j][n];
    }
    for (int64_t n = 0; n < kTileFeatures; ++n) sums[n] += acc[n];
  }
}

// The codes of one tile row: codes[i][n]; the number of inputs is 8 (U4) or 4 (U8).
void unpack_code_row(WeightFormat format, const std::byte* row,
                     float codes[kU4TileInputs][kTileFeatures]) {
  uint8_t bytes[kTileFeatures][4];
  std::memcpy(bytes, row, kTileBytes);
  for (int64_t n = 0; n < kTileFeatures; ++n) {
    for (int64_t j = 0; j < 4; ++j) {
      if (format == WeightFormat::kU8) {
        codes[j][n] = static_cast<float>(bytes[n][j]);
      } else {
        codes[j][n] = static_cast<float>(bytes[n][j] & 15);
        codes[j + 4][n] = static_cast<float>(bytes[n][j] >> 4);
      }
    }
  }
}

// sums[n] of a matrix with groups: block by block, each summed in order of k.
void code_tile(const PackedMatrix& w, int64_t tile, const float* x, const float* block_sums,
               float sums[kTileFeatures]) {
  const std::byte* row = w.weight + tile * w.tile_bytes();
  const int64_t inputs_per_row = w.format == WeightFormat::kU4 ? kU4TileInputs : kU8TileInputs;
  const int64_t block = w.block_inputs();
  const int64_t blocks_per_group = w.group_size / block;
  for (int64_t n = 0; n < kTileFeatures; ++n) sums[n] = 0;
  for (int64_t b = 0; b < w.num_blocks(); ++b) {
    float acc[kTileFeatures] = {};
    for (int64_t k = b * block; k < (b + 1) * block; k += inputs_per_row, row += kTileBytes) {
      float codes[kU4TileInputs][kTileFeatures];
      unpack_code_row(w.format, row, codes);
      for (int64_t i = 0; i < inputs_per_row; ++i) {
        for (int64_t n = 0; n < kTileFeatures; ++n) acc[n] += x[k + i] * codes[i][n];
      }
    }
    const int64_t params = (tile * w.num_groups() + b / blocks_per_group) * kTileFeatures;
    for (int64_t n = 0; n < kTileFeatures; ++n) {
      const float scale =
          w.scale32 != nullptr ? w.scale32[params + n] : float_from_f16(w.scale16[params + n]);
      const float zero = static_cast<float>(w.zero[params + n]);
      sums[n] += scale * (acc[n] - zero * block_sums[b]);
    }
  }
}

}  // namespace

void gemm(const PackedMatrix& w, const float* x, const float* sums, int64_t rows,
          int64_t tile_begin, int64_t tile_end, float* y, int64_t ldy) {
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    for (int64_t r = 0; r < rows; ++r) {
      float out[kTileFeatures];
      if (w.has_groups()) {
        code_tile(w, tile, x + r * w.k, sums + r * w.num_blocks(), out);
      } else {
        float_tile(w, w.weight + tile * w.tile_bytes(), x + r * w.k, out);
      }
      const int64_t first = tile * kTileFeatures;
      for (int64_t n = 0; n < kTileFeatures && first + n < w.n; ++n) {
        y[r * ldy + first + n] = w.bias != nullptr ? out[n] + w.bias[first + n] : out[n];
      }
    }
  }
}

void gemm_i8(const PackedMatrix& w, const quant::QuantizedRows& x, int64_t rows, int64_t tile_begin,
             int64_t tile_end, float* y, int64_t ldy) {
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    const auto* words = reinterpret_cast<const quant::U8TileRow*>(w.weight + tile * w.tile_bytes());
    const int64_t first = tile * kTileFeatures;
    for (int64_t r = 0; r < rows; ++r) {
      const int8_t* codes = x.codes + r * x.stride;
      for (int64_t n = 0; n < kTileFeatures && first + n < w.n; ++n) {
        int32_t dot = 0;
        for (int64_t k = 0; k < w.k; ++k) {
          const int32_t code = words[k / kU8TileInputs].codes[n][k % kU8TileInputs];
          dot += codes[k] * (code - quant::kI8Offset);
        }
        const float out = static_cast<float>(dot) * (x.scale[r] * w.scale32[first + n]);
        y[r * ldy + first + n] = w.bias != nullptr ? out + w.bias[first + n] : out;
      }
    }
  }
}

}  // namespace lmrun::kernels::reference
