// Blocks of floats into signed digits of 8 bits (split_rows of kernels.h), for the *_avx512.cc
// files that make some. The arithmetic is that of the reference, operation for operation.
#pragma once

#include "kernels/cpu/digit_scale.h"
#include "kernels/cpu/simd_avx512.h"
#include "quant/layout.h"

namespace lmrun::kernels::avx512 {

// Sums of each digit as one number, in units.
template <int kDigits>
LMRUN_INLINE __m512 join_digits(const __m512i* sums) {
  __m512 joined = _mm512_cvtepi32_ps(sums[0]);
  if constexpr (kDigits > 1) {
    joined = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[1]), _mm512_set1_ps(256.0f), joined);
  }
  if constexpr (kDigits > 2) {
    joined = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[2]), _mm512_set1_ps(65536.0f), joined);
  }
  return joined;
}

// The magnitudes of a block's inputs, each lane the largest of its own; as integers they order like
// the floats, and NaN comes after infinity.
LMRUN_INLINE __m512i largest_magnitudes(const float* x, int64_t inputs) {
  const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
  __m512i largest = _mm512_setzero_si512();
  for (int64_t i = 0; i < inputs; i += 16) {
    const __m512i bits = _mm512_maskz_loadu_epi32(first_lanes(inputs - i), x + i);
    largest = _mm512_max_epu32(largest, _mm512_and_si512(bits, magnitude));
  }
  return largest;
}

// One block: `bits` is the largest magnitude of its inputs, digit d goes to digits + d * stride.
template <int kDigits>
LMRUN_INLINE void split_block(const float* x, int64_t inputs, uint32_t bits, int8_t* digits,
                              int64_t stride, float* unit, float* sum) {
  if (bits >= 0x7F800000u) {  // not finite, and so is what comes of it
    for (int64_t i = 0; i < inputs; i += 16) {
      for (int d = 0; d < kDigits; ++d) {
        _mm512_mask_cvtepi32_storeu_epi8(digits + d * stride + i, first_lanes(inputs - i),
                                         _mm512_setzero_si512());
      }
    }
    *unit = *sum = __builtin_nanf("");
    return;
  }
  const DigitScale scale = digit_scale<kDigits>(bits);
  const float factor = scale.factor;
  *unit = scale.unit;
  const __m512 factors = _mm512_set1_ps(factor);
  const __m512i half = _mm512_set1_epi32(128);
  const __m512i one_byte = _mm512_set1_epi32(255);
  __m512i sums[kDigits];
  LMRUN_UNROLL
  for (int d = 0; d < kDigits; ++d) sums[d] = _mm512_setzero_si512();
  for (int64_t i = 0; i < inputs; i += 16) {
    const __mmask16 mask = first_lanes(inputs - i);
    __m512i number = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), factors));
    LMRUN_UNROLL
    for (int d = 0; d < kDigits; ++d) {  // the low byte is the digit; it is taken as signed
      _mm512_mask_cvtepi32_storeu_epi8(digits + d * stride + i, mask, number);
      const __m512i raised = _mm512_add_epi32(number, half);
      sums[d] =
          _mm512_add_epi32(sums[d], _mm512_sub_epi32(_mm512_and_si512(raised, one_byte), half));
      number = _mm512_srai_epi32(raised, 8);
    }
  }
  __m512i totals[kDigits];
  LMRUN_UNROLL
  for (int d = 0; d < kDigits; ++d) totals[d] = _mm512_set1_epi32(_mm512_reduce_add_epi32(sums[d]));
  *sum = _mm512_cvtss_f32(join_digits<kDigits>(totals)) * *unit;
}

}  // namespace lmrun::kernels::avx512
