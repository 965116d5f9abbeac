// Vectors of 16 lanes as two registers of AVX2. Included by *_avx2.cc only; everything is always
// inlined, so no object file holds a copy that another could be linked to.
#pragma once

#include "kernels/cpu/simd.h"

namespace lmrun::kernels::avx2 {

// The first min(count, 8) lanes; none where it is negative.
LMRUN_INLINE __m256i first_lanes(int64_t count) {
  const int few = count >= 8 ? 8 : count <= 0 ? 0 : static_cast<int>(count);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(few), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// 2^n times x, in two steps, so that neither leaves the normal numbers.
LMRUN_INLINE __m256 times_power(__m256 x, __m256 n) {
  const __m256i whole = _mm256_cvtps_epi32(n);
  const __m256i first = _mm256_srai_epi32(whole, 1);
  const auto power = [](__m256i e) __attribute__((always_inline)) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(127)), 23));
  };
  return _mm256_mul_ps(_mm256_mul_ps(x, power(first)), power(_mm256_sub_epi32(whole, first)));
}

// As exp16 of simd_avx512.h.
LMRUN_INLINE __m256 exp8(__m256 x) {
  x = _mm256_max_ps(_mm256_set1_ps(-105.0f), x);
  x = _mm256_min_ps(_mm256_set1_ps(90.0f), x);
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  __m256 p = _mm256_set1_ps(1.9875691500e-4f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
  p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r);
  p = _mm256_add_ps(p, _mm256_set1_ps(1.0f));
  return times_power(p, n);
}

// As exp2_16 of simd_avx512.h.
LMRUN_INLINE __m256 exp2_8(__m256 x) {
  x = _mm256_max_ps(_mm256_set1_ps(-152.0f), x);
  const __m256 n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256 f = _mm256_sub_ps(x, n);
  __m256 p = _mm256_set1_ps(1.3264727247e-3f);
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(9.6715126882e-3f));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(5.5507337436e-2f));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(2.4022242085e-1f));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(6.9314697760e-1f));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0f));
  return times_power(p, n);
}

// The low 16 bits of each dword.
LMRUN_INLINE __m128i low_words(__m256i x) {
  const __m256i picked = _mm256_shuffle_epi8(
      x, _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1, 0, 1, 4, 5, 8,
                          9, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1));
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(picked, 0x08));
}

// The low byte of each dword.
LMRUN_INLINE int64_t low_bytes(__m256i x) {
  const __m256i picked = _mm256_shuffle_epi8(
      x, _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8, 12,
                          -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
  return _mm_cvtsi128_si64(
      _mm_unpacklo_epi32(_mm256_castsi256_si128(picked), _mm256_extracti128_si256(picked, 1)));
}

LMRUN_INLINE float max_of(__m256 x) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

LMRUN_INLINE float sum_of(__m256 x) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

LMRUN_INLINE int32_t sum_of(__m256i x) {
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}

// Four bytes, the same in each dword.
LMRUN_INLINE __m256i four_bytes(const int8_t* x) {
  int32_t word = 0;
  __builtin_memcpy(&word, x, sizeof(word));
  return _mm256_set1_epi32(word);
}

// Four pairs of bytes a lane, codes of 8 bits and signed ones: widened to 16 bits, whose products
// and sums of two are exact in 32. Bytes 0 and 2 of each dword, and bytes 1 and 3.
struct Words {
  __m256i even;
  __m256i odd;
};

LMRUN_INLINE Words code_words(__m256i codes) {
  return {_mm256_and_si256(codes, _mm256_set1_epi32(0x00FF00FF)), _mm256_srli_epi16(codes, 8)};
}

LMRUN_INLINE Words input_words(const int8_t* x) {
  const __m256i all = four_bytes(x);
  return {_mm256_srai_epi16(_mm256_slli_epi16(all, 8), 8), _mm256_srai_epi16(all, 8)};
}

LMRUN_INLINE __m256i add_products(__m256i sum, const Words& codes, const Words& inputs) {
  const __m256i even = _mm256_madd_epi16(codes.even, inputs.even);
  const __m256i odd = _mm256_madd_epi16(codes.odd, inputs.odd);
  return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}

}  // namespace lmrun::kernels::avx2
