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

void u4_tile(const PackedMatrix& w, int64_t tile, const float* x, const float* group_sums,
             float sums[kTileFeatures]) {
  const auto* rows = reinterpret_cast<const quant::U4TileRow*>(w.weight + tile * w.tile_bytes());
  const int64_t groups = w.num_groups();
  const int64_t rows_per_group = w.group_size / kU4TileInputs;
  for (int64_t n = 0; n < kTileFeatures; ++n) sums[n] = 0;
  for (int64_t g = 0; g < groups; ++g) {
    float acc[kTileFeatures] = {};
    for (int64_t t = g * rows_per_group; t < (g + 1) * rows_per_group; ++t) {
      for (int64_t i = 0; i < kU4TileInputs; ++i) {
        const float value = x[t * kU4TileInputs + i];
        const int shift = i < 4 ? 0 : 4;
        for (int64_t n = 0; n < kTileFeatures; ++n) {
          acc[n] += value * static_cast<float>((rows[t].bytes[n][i % 4] >> shift) & 15);
        }
      }
    }
    const int64_t params = (tile * groups + g) * kTileFeatures;
    for (int64_t n = 0; n < kTileFeatures; ++n) {
      const float scale = float_from_f16(w.scale[params + n]);
      const float zero = static_cast<float>(w.zero[params + n]);
      sums[n] += scale * (acc[n] - zero * group_sums[g]);
    }
  }
}

}  // namespace

void gemm(const PackedMatrix& w, const float* x, const float* sums, int64_t rows,
          int64_t tile_begin, int64_t tile_end, float* y, int64_t ldy) {
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    for (int64_t r = 0; r < rows; ++r) {
      float out[kTileFeatures];
      if (w.format == WeightFormat::kU4) {
        u4_tile(w, tile, x + r * w.k, sums + r * w.num_groups(), out);
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

}  // namespace lmrun::kernels::reference
