// No std header with templates: see avx2.h. The arithmetic of split_rows is that of the reference,
// operation for operation.
#include <math.h>

#include "kernels/cpu/avx2.h"
#include "kernels/cpu/simd_avx2.h"

namespace lmrun::kernels::avx2 {

void rms_norm(const float* x, const float* weight, float eps, int64_t rows, int64_t n, float* y) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* in = x + r * n;
    __m256 squares[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                         _mm256_setzero_ps()};
    for (int64_t i = 0; i < n; i += 32) {
      LMRUN_UNROLL
      for (int j = 0; j < 4; ++j) {
        const __m256 v = _mm256_maskload_ps(in + i + 8 * j, first_lanes(n - i - 8 * j));
        squares[j] = _mm256_fmadd_ps(v, v, squares[j]);
      }
    }
    const float sum = sum_of(_mm256_add_ps(_mm256_add_ps(squares[0], squares[1]),
                                           _mm256_add_ps(squares[2], squares[3])));
    const __m256 factor = _mm256_set1_ps(1.0f / sqrtf(sum / static_cast<float>(n) + eps));
    for (int64_t i = 0; i < n; i += 8) {
      const __m256i mask = first_lanes(n - i);
      const __m256 v = _mm256_mul_ps(_mm256_maskload_ps(in + i, mask), factor);
      _mm256_maskstore_ps(y + r * n + i, mask,
                          _mm256_mul_ps(v, _mm256_maskload_ps(weight + i, mask)));
    }
  }
}

void add(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += 8) {
    const __m256i mask = first_lanes(n - i);
    _mm256_maskstore_ps(
        y + i, mask,
        _mm256_add_ps(_mm256_maskload_ps(y + i, mask), _mm256_maskload_ps(x + i, mask)));
  }
}

void silu_mul(const float* x, int64_t rows, int64_t inter, float* y) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* gate = x + r * 2 * inter;
    for (int64_t i = 0; i < inter; i += 8) {
      const __m256i mask = first_lanes(inter - i);
      const __m256 g = _mm256_maskload_ps(gate + i, mask);
      const __m256 exp_minus = exp8(_mm256_sub_ps(_mm256_setzero_ps(), g));
      const __m256 silu = _mm256_div_ps(g, _mm256_add_ps(_mm256_set1_ps(1.0f), exp_minus));
      _mm256_maskstore_ps(y + r * inter + i, mask,
                          _mm256_mul_ps(silu, _mm256_maskload_ps(gate + inter + i, mask)));
    }
  }
}

void rope(float* x, int64_t stride, const int32_t* positions, int64_t rows, int64_t heads,
          int64_t head_dim, const float* cos, const float* sin) {
  const int64_t half = head_dim / 2;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < half; i += 8) {
      const __m256i mask = first_lanes(half - i);
      const __m256 c = _mm256_maskload_ps(cos + positions[r] * half + i, mask);
      const __m256 s = _mm256_maskload_ps(sin + positions[r] * half + i, mask);
      for (int64_t h = 0; h < heads; ++h) {
        float* low = x + r * stride + h * head_dim + i;
        float* high = low + half;
        const __m256 a = _mm256_maskload_ps(low, mask);
        const __m256 b = _mm256_maskload_ps(high, mask);
        _mm256_maskstore_ps(low, mask, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
        _mm256_maskstore_ps(high, mask, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)));
      }
    }
  }
}

}  // namespace lmrun::kernels::avx2
