#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/half.h"
#include "kernels/cpu/reference.h"

namespace lmrun::kernels::reference {

void embed(const quant::PackedMatrix& table, const int32_t* ids, int64_t rows, float* y) {
  const bool is_f32 = table.format == quant::WeightFormat::kF32;
  const bool is_bf16 = table.format == quant::WeightFormat::kBf16;
  const int64_t words = table.tile_bytes() / quant::kTileBytes;  // words of a feature
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t tile = ids[r] / quant::kTileFeatures;
    const int64_t feature = ids[r] % quant::kTileFeatures;
    const std::byte* source = table.weight + tile * table.tile_bytes() + feature * 4;
    float* row = y + r * table.k;
    for (int64_t t = 0; t < words; ++t) {
      if (is_f32) {
        std::memcpy(row + t, source + t * quant::kTileBytes, 4);
        continue;
      }
      uint16_t pair[2];
      std::memcpy(pair, source + t * quant::kTileBytes, 4);
      for (int64_t j = 0; j < 2 && 2 * t + j < table.k; ++j) {
        row[2 * t + j] = is_bf16 ? float_from_bf16(pair[j]) : float_from_f16(pair[j]);
      }
    }
  }
}

void rms_norm(const float* x, const float* weight, float eps, int64_t rows, int64_t n, float* y) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* in = x + r * n;
    float* out = y + r * n;
    double squares = 0;
    for (int64_t i = 0; i < n; ++i) squares += static_cast<double>(in[i]) * in[i];
    const double mean = squares / static_cast<double>(n);
    const float factor = static_cast<float>(1.0 / std::sqrt(mean + eps));
    for (int64_t i = 0; i < n; ++i) out[i] = in[i] * factor * weight[i];
  }
}

void add(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] += x[i];
}

void silu_mul(const float* x, int64_t rows, int64_t inter, float* y) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* gate = x + r * 2 * inter;
    const float* up = gate + inter;
    float* out = y + r * inter;
    for (int64_t i = 0; i < inter; ++i) out[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
  }
}

void rope(float* x, int64_t stride, const int32_t* positions, int64_t rows, int64_t heads,
          int64_t head_dim, const float* cos, const float* sin) {
  const int64_t half = head_dim / 2;
  for (int64_t r = 0; r < rows; ++r) {
    const float* c = cos + positions[r] * half;
    const float* s = sin + positions[r] * half;
    for (int64_t h = 0; h < heads; ++h) {
      float* low = x + r * stride + h * head_dim;
      float* high = low + half;
      for (int64_t i = 0; i < half; ++i) {
        const float a = low[i];
        const float b = high[i];
        low[i] = a * c[i] - b * s[i];
        high[i] = b * c[i] + a * s[i];
      }
    }
  }
}

void gather(const float* x, int64_t rows, int64_t k, const int32_t* order, float* y) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < k; ++i) y[r * k + i] = x[r * k + order[i]];
  }
}

void quantize_rows(const float* x, int64_t rows, int64_t k, const quant::QuantizedRows& y) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* in = x + r * k;
    int8_t* codes = y.codes + r * y.stride;
    std::memset(codes, 0, static_cast<size_t>(y.stride));
    // As integers, magnitudes order like the floats, and NaN comes after infinity.
    uint32_t largest = 0;
    for (int64_t i = 0; i < k; ++i) {
      largest = std::max(largest, std::bit_cast<uint32_t>(in[i]) & 0x7FFFFFFFU);
    }
    const float scale = std::bit_cast<float>(largest) / 127.0f;
    int32_t sum = 0;
    if (scale != 0.0f && std::isfinite(scale)) {
      for (int64_t i = 0; i < k; ++i) {
        const float code = std::clamp(std::nearbyint(in[i] / scale), -127.0f, 127.0f);
        codes[i] = static_cast<int8_t>(code);
        sum += codes[i];
      }
    }
    y.scale[r] = scale;
    y.sum[r] = sum;
  }
}

void max_and_log_sum_exp(const float* x, int64_t n, float* max, float* log_sum_exp) {
  const float top = *std::max_element(x, x + n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(std::exp(x[i] - top));
  *max = top;
  *log_sum_exp = top + static_cast<float>(std::log(sum));
}

const OpTable& ops() {
  static constexpr OpTable kOps = {
      Isa::kGeneric, embed,      rms_norm,       add,
      silu_mul,      rope,       gather,         gemm,
      split_rows,    gemm_codes, quantize_rows,  gemm_i8,
      kv_write,      attention,  attention_join, max_and_log_sum_exp,
  };
  return kOps;
}

}  // namespace lmrun::kernels::reference
