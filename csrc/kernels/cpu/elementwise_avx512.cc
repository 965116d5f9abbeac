// No std header with templates: see avx512.h.
#include <math.h>

#include "kernels/cpu/avx512.h"
#include "kernels/cpu/simd_avx512.h"

namespace lmrun::kernels::avx512 {

void embed(const quant::PackedMatrix& table, const int32_t* ids, int64_t rows, float* y) {
  const int64_t words = table.tile_bytes() / quant::kTileBytes;  // words of a feature
  const __m512i lanes =
      _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                         _mm512_set1_epi32(static_cast<int>(quant::kTileBytes)));
  for (int64_t r = 0; r < rows; ++r) {
    const std::byte* source = table.weight + ids[r] / quant::kTileFeatures * table.tile_bytes() +
                              ids[r] % quant::kTileFeatures * 4;
    float* row = y + r * table.k;
    for (int64_t t = 0; t < words; t += 16) {
      const __m512i word = _mm512_mask_i32gather_epi32(
          _mm512_setzero_si512(), first_lanes(words - t), lanes, source + t * quant::kTileBytes, 1);
      if (table.format == quant::WeightFormat::kF32) {
        _mm512_mask_storeu_epi32(row + t, first_lanes(words - t), word);
        continue;
      }
      const __m256i halves[2] = {_mm512_castsi512_si256(word), _mm512_extracti64x4_epi64(word, 1)};
      for (int h = 0; h < 2; ++h) {  // a word holds two inputs, in order
        const int64_t k = 2 * t + 16 * h;
        if (k >= table.k) break;
        const __m512 value =
            table.format == quant::WeightFormat::kF16
                ? _mm512_cvtph_ps(halves[h])
                : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves[h]), 16));
        _mm512_mask_storeu_ps(row + k, first_lanes(table.k - k), value);
      }
    }
  }
}

void rms_norm(const float* x, const float* weight, float eps, int64_t rows, int64_t n, float* y) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* in = x + r * n;
    float* out = y + r * n;
    __m512 squares[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                         _mm512_setzero_ps()};
    int64_t i = 0;
    for (; i + 64 <= n; i += 64) {
      for (int j = 0; j < 4; ++j) {
        const __m512 v = _mm512_loadu_ps(in + i + 16 * j);
        squares[j] = _mm512_fmadd_ps(v, v, squares[j]);
      }
    }
    for (; i < n; i += 16) {
      const __m512 v = _mm512_maskz_loadu_ps(first_lanes(n - i), in + i);
      squares[0] = _mm512_fmadd_ps(v, v, squares[0]);
    }
    const float sum = _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(squares[0], squares[1]),
                                                         _mm512_add_ps(squares[2], squares[3])));
    const __m512 factor = _mm512_set1_ps(1.0f / sqrtf(sum / static_cast<float>(n) + eps));
    for (i = 0; i < n; i += 16) {
      const __mmask16 mask = first_lanes(n - i);
      const __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, in + i), factor);
      _mm512_mask_storeu_ps(out + i, mask,
                            _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask, weight + i)));
    }
  }
}

void add(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = first_lanes(n - i);
    _mm512_mask_storeu_ps(
        y + i, mask,
        _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y + i), _mm512_maskz_loadu_ps(mask, x + i)));
  }
}

void silu_mul(const float* x, int64_t rows, int64_t inter, float* y) {
  const __m512 one = _mm512_set1_ps(1.0f);
  for (int64_t r = 0; r < rows; ++r) {
    const float* gate = x + r * 2 * inter;
    const float* up = gate + inter;
    for (int64_t i = 0; i < inter; i += 16) {
      const __mmask16 mask = first_lanes(inter - i);
      const __m512 g = _mm512_maskz_loadu_ps(mask, gate + i);
      const __m512 exp_minus = exp16(_mm512_sub_ps(_mm512_setzero_ps(), g));
      const __m512 silu = _mm512_div_ps(g, _mm512_add_ps(one, exp_minus));
      _mm512_mask_storeu_ps(y + r * inter + i, mask,
                            _mm512_mul_ps(silu, _mm512_maskz_loadu_ps(mask, up + i)));
    }
  }
}

void rope(float* x, int64_t stride, const int32_t* positions, int64_t rows, int64_t heads,
          int64_t head_dim, const float* cos, const float* sin) {
  const int64_t half = head_dim / 2;
  for (int64_t r = 0; r < rows; ++r) {
    const float* cos_row = cos + positions[r] * half;
    const float* sin_row = sin + positions[r] * half;
    for (int64_t i = 0; i < half; i += 16) {
      const __mmask16 mask = first_lanes(half - i);
      const __m512 c = _mm512_maskz_loadu_ps(mask, cos_row + i);
      const __m512 s = _mm512_maskz_loadu_ps(mask, sin_row + i);
      for (int64_t h = 0; h < heads; ++h) {
        float* low = x + r * stride + h * head_dim + i;
        float* high = low + half;
        const __m512 a = _mm512_maskz_loadu_ps(mask, low);
        const __m512 b = _mm512_maskz_loadu_ps(mask, high);
        _mm512_mask_storeu_ps(low, mask, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
        _mm512_mask_storeu_ps(high, mask, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
      }
    }
  }
}

void max_and_log_sum_exp(const float* x, int64_t n, float* max, float* log_sum_exp) {
  const __m512 lowest = _mm512_set1_ps(-__builtin_inff());
  __m512 tops = lowest;
  for (int64_t i = 0; i < n; i += 16) {
    tops = _mm512_max_ps(tops, _mm512_mask_loadu_ps(lowest, first_lanes(n - i), x + i));
  }
  const float top = _mm512_reduce_max_ps(tops);
  const __m512 top16 = _mm512_set1_ps(top);
  __m512d sums[2] = {_mm512_setzero_pd(), _mm512_setzero_pd()};
  for (int64_t i = 0; i < n; i += 16) {
    const __m512 v = _mm512_mask_loadu_ps(lowest, first_lanes(n - i), x + i);
    const __m512 e = exp16(_mm512_sub_ps(v, top16));
    sums[0] = _mm512_add_pd(sums[0], _mm512_cvtps_pd(_mm512_castps512_ps256(e)));
    sums[1] = _mm512_add_pd(sums[1], _mm512_cvtps_pd(_mm512_extractf32x8_ps(e, 1)));
  }
  *max = top;
  *log_sum_exp =
      top + static_cast<float>(log(_mm512_reduce_add_pd(_mm512_add_pd(sums[0], sums[1]))));
}

}  // namespace lmrun::kernels::avx512
