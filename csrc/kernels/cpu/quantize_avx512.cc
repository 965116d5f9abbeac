// No std header with templates: see avx512.h. The arithmetic is that of the reference, operation
// for operation, so both give the same bytes.
#include "kernels/cpu/avx512.h"
#include "kernels/cpu/simd_avx512.h"

namespace lmrun::kernels::avx512 {

void gather(const float* x, int64_t rows, int64_t k, const int32_t* order, float* y) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < k; i += 16) {
      const __mmask16 mask = first_lanes(k - i);
      const __m512i from = _mm512_maskz_loadu_epi32(mask, order + i);
      const __m512 values =
          _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask, from, x + r * k, sizeof(float));
      _mm512_mask_storeu_ps(y + r * k + i, mask, values);
    }
  }
}

void quantize_rows(const float* x, int64_t rows, int64_t k, const quant::QuantizedRows& y) {
  const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
  const __m512 most = _mm512_set1_ps(127.0f);
  for (int64_t r = 0; r < rows; ++r) {
    const float* in = x + r * k;
    int8_t* codes = y.codes + r * y.stride;
    __m512i largest[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                          _mm512_setzero_si512()};
    // As integers, magnitudes order like the floats, and NaN comes after infinity.
    int64_t i = 0;
    for (; i + 64 <= k; i += 64) {
      for (int j = 0; j < 4; ++j) {
        largest[j] = _mm512_max_epu32(
            largest[j], _mm512_and_si512(_mm512_loadu_si512(in + i + 16 * j), magnitude));
      }
    }
    for (; i < k; i += 16) {
      largest[0] = _mm512_max_epu32(
          largest[0],
          _mm512_and_si512(_mm512_maskz_loadu_epi32(first_lanes(k - i), in + i), magnitude));
    }
    const __m512i both = _mm512_max_epu32(_mm512_max_epu32(largest[0], largest[1]),
                                          _mm512_max_epu32(largest[2], largest[3]));
    const __m512 scale =
        _mm512_div_ps(_mm512_castsi512_ps(_mm512_set1_epi32(_mm512_reduce_max_epu32(both))), most);
    const float first = _mm512_cvtss_f32(scale);
    // Neither 0 nor infinite nor NaN.
    const bool is_plain = first != 0.0f && first - first == 0.0f;
    __m512i sums = _mm512_setzero_si512();
    for (i = 0; i < y.stride; i += 16) {
      __m512i code = _mm512_setzero_si512();
      if (is_plain && i < k) {
        const __m512 ratio =
            _mm512_div_ps(_mm512_maskz_loadu_ps(first_lanes(k - i), in + i), scale);
        const __m512 clamped = _mm512_min_ps(_mm512_max_ps(ratio, _mm512_set1_ps(-127.0f)), most);
        code = _mm512_cvtps_epi32(clamped);  // to nearest, ties to even
        sums = _mm512_add_epi32(sums, code);
      }
      _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), _mm512_cvtepi32_epi8(code));
    }
    y.scale[r] = first;
    y.sum[r] = _mm512_reduce_add_epi32(sums);
  }
}

}  // namespace lmrun::kernels::avx512
