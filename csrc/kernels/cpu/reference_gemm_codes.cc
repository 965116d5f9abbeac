#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/cpu/half.h"
#include "kernels/cpu/reference.h"

namespace lmrun::kernels::reference {
namespace {

using quant::DigitRows;
using quant::kMostDigits;
using quant::kTileBytes;
using quant::kTileFeatures;
using quant::kU4TileInputs;
using quant::kU8TileInputs;
using quant::PackedMatrix;
using quant::WeightFormat;

// The largest number that so many digits can say.
constexpr float kMost[kMostDigits + 1] = {0, 127, 32639, 8355711};

// Sums of each digit as one number, in units. Products by powers of two do not round, so each step
// rounds once, as a fused one does.
float join(const int32_t* sums, int64_t num_digits) {
  float joined = static_cast<float>(sums[0]);
  float weight = 256;
  for (int64_t d = 1; d < num_digits; ++d, weight *= 256) {
    joined = std::fma(static_cast<float>(sums[d]), weight, joined);
  }
  return joined;
}

// What multiplies an input before it is rounded, and what its number is then multiplied by.
struct Scale {
  float factor;
  float unit;
};

Scale scale_of(float largest, int64_t num_digits) {
  const float most = kMost[num_digits];
  largest = std::max(largest, 0x1p-100f);
  if (num_digits < 3) return {most / largest, largest / most};
  int exponent = std::ilogb(largest) - 22;
  if (largest * std::ldexp(1.0f, -exponent) > most) ++exponent;
  return {std::ldexp(1.0f, -exponent), std::ldexp(1.0f, exponent)};
}

// One block of a row: inputs x, digit d at digits + d * stride.
void split_block(const float* x, const DigitRows& y, int8_t* digits, float* unit, float* sum) {
  uint32_t bits = 0;  // as integers, magnitudes order like the floats, and NaN comes last
  for (int64_t i = 0; i < y.block; ++i) {
    bits = std::max(bits, std::bit_cast<uint32_t>(x[i]) & 0x7FFFFFFFU);
  }
  const auto largest = std::bit_cast<float>(bits);
  if (!std::isfinite(largest)) {
    *unit = *sum = std::numeric_limits<float>::quiet_NaN();
    return;  // the digits are 0
  }
  const Scale scale = scale_of(largest, y.num_digits);
  int32_t sums[kMostDigits] = {};
  for (int64_t i = 0; i < y.block; ++i) {
    auto number = static_cast<int32_t>(std::nearbyint(x[i] * scale.factor));
    for (int64_t d = 0; d < y.num_digits; ++d) {
      const auto digit = static_cast<int8_t>(number);  // the low byte, taken as signed
      digits[d * y.stride + i] = digit;
      sums[d] += digit;
      number = (number - digit) / 256;
    }
  }
  *unit = scale.unit;
  *sum = join(sums, y.num_digits) * scale.unit;
}

// The codes of one tile row: codes[i][n]; the number of inputs is 8 (U4) or 4 (U8).
void unpack_code_row(WeightFormat format, const std::byte* row,
                     int16_t codes[kU4TileInputs][kTileFeatures]) {
  uint8_t bytes[kTileFeatures][4];
  std::memcpy(bytes, row, kTileBytes);
  for (int64_t n = 0; n < kTileFeatures; ++n) {
    for (int64_t j = 0; j < 4; ++j) {
      if (format == WeightFormat::kU8) {
        codes[j][n] = bytes[n][j];
      } else {
        codes[j][n] = bytes[n][j] & 15;
        codes[j + 4][n] = bytes[n][j] >> 4;
      }
    }
  }
}

// out[n] of row r.
void code_tile(const PackedMatrix& w, int64_t tile, const DigitRows& x, int64_t r,
               float out[kTileFeatures]) {
  const std::byte* row = w.weight + tile * w.tile_bytes();
  const int8_t* digits = x.digits + r * x.num_digits * x.stride;
  const int64_t inputs_per_row = w.format == WeightFormat::kU4 ? kU4TileInputs : kU8TileInputs;
  const int64_t blocks_per_group = w.group_size / x.block;
  for (int64_t n = 0; n < kTileFeatures; ++n) out[n] = 0;
  for (int64_t b = 0; b < w.num_blocks(); ++b) {
    int32_t dots[kMostDigits][kTileFeatures] = {};
    for (int64_t k = b * x.block; k < (b + 1) * x.block; k += inputs_per_row, row += kTileBytes) {
      int16_t codes[kU4TileInputs][kTileFeatures];
      unpack_code_row(w.format, row, codes);
      for (int64_t d = 0; d < x.num_digits; ++d) {
        for (int64_t i = 0; i < inputs_per_row; ++i) {
          const int16_t digit = digits[d * x.stride + k + i];
          for (int64_t n = 0; n < kTileFeatures; ++n) dots[d][n] += digit * codes[i][n];
        }
      }
    }
    const int64_t params = (tile * w.num_groups() + b / blocks_per_group) * kTileFeatures;
    const float unit = x.unit[r * w.num_blocks() + b];
    const float sum = x.sum[r * w.num_blocks() + b];
    for (int64_t n = 0; n < kTileFeatures; ++n) {
      const float scale =
          w.scale32 != nullptr ? w.scale32[params + n] : float_from_f16(w.scale16[params + n]);
      const float zero = w.zero[params + n];
      int32_t dot[kMostDigits] = {};
      for (int64_t d = 0; d < x.num_digits; ++d) dot[d] = dots[d][n];
      const float centred = std::fma(-zero, sum, join(dot, x.num_digits) * unit);
      out[n] = std::fma(scale, centred, out[n]);
    }
  }
}

}  // namespace

void split_rows(const float* x, int64_t rows, int64_t k, const DigitRows& y) {
  const int64_t blocks = k / y.block;
  for (int64_t r = 0; r < rows; ++r) {
    int8_t* digits = y.digits + r * y.num_digits * y.stride;
    std::memset(digits, 0, static_cast<size_t>(y.num_digits * y.stride));
    for (int64_t b = 0; b < blocks; ++b) {
      split_block(x + r * k + b * y.block, y, digits + b * y.block, y.unit + r * blocks + b,
                  y.sum + r * blocks + b);
    }
  }
}

void gemm_codes(const PackedMatrix& w, const DigitRows& x, int64_t rows, int64_t tile_begin,
                int64_t tile_end, float* y, int64_t ldy) {
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    for (int64_t r = 0; r < rows; ++r) {
      float out[kTileFeatures];
      code_tile(w, tile, x, r, out);
      const int64_t first = tile * kTileFeatures;
      for (int64_t n = 0; n < kTileFeatures && first + n < w.n; ++n) {
        y[r * ldy + first + n] = w.bias != nullptr ? out[n] + w.bias[first + n] : out[n];
      }
    }
  }
}

}  // namespace lmrun::kernels::reference
