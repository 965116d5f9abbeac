#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/half.h"
#include "kernels/cpu/reference.h"

namespace lmrun::kernels::reference {
namespace {

using quant::kTileBytes;
using quant::kTileFeatures;
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

}  // namespace

void gemm(const PackedMatrix& w, const float* x, int64_t rows, int64_t tile_begin, int64_t tile_end,
          float* y, int64_t ldy) {
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    for (int64_t r = 0; r < rows; ++r) {
      float out[kTileFeatures];
      float_tile(w, w.weight + tile * w.tile_bytes(), x + r * w.k, out);
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
