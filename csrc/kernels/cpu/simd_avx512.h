// Small pieces the AVX-512 files share. Included by *_avx512.cc only; everything is always inlined,
// so no object file holds a copy that another could be linked to.
#pragma once

#include "kernels/cpu/simd.h"

namespace lmrun::kernels::avx512 {

LMRUN_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
LMRUN_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// The first min(count, 16) lanes.
LMRUN_INLINE __mmask16 first_lanes(int64_t count) {
  return count >= 16 ? __mmask16{0xFFFF} : static_cast<__mmask16>((1u << count) - 1u);
}

// e^x within 1 ulp for normal results; e^-inf is 0, overflow is infinity, NaN stays NaN.
// Range reduction by ln 2 in two parts, then the polynomial of Cephes' expf.
LMRUN_INLINE __m512 exp16(__m512 x) {
  // The second operand is what a NaN comparison returns.
  x = _mm512_max_ps(_mm512_set1_ps(-105.0f), x);
  x = _mm512_min_ps(_mm512_set1_ps(90.0f), x);
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
  p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r);
  p = _mm512_add_ps(p, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, n);
}

// 2^x for x <= 126, within 3 * 2^-24 of it; 2^0 is 1, 2^-inf is 0, NaN stays NaN. The polynomial is
// a minimax fit of 2^f, |f| <= 1/2, that is exact at 0.
LMRUN_INLINE __m512 exp2_16(__m512 x) {
  // The second operand is what a NaN comparison returns.
  x = _mm512_max_ps(_mm512_set1_ps(-152.0f), x);
  const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 f = _mm512_sub_ps(x, n);
  __m512 p = _mm512_set1_ps(1.3264727247e-3f);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.6715126882e-3f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.5507337436e-2f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4022242085e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9314697760e-1f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, n);
}

// Lane j of row i becomes lane i of row j.
LMRUN_INLINE void transpose16(__m512i rows[16]) {
  __m512i t[16];
  LMRUN_UNROLL
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  __m512i u[16];  // u[4b + j]: column 4q + j of rows 4b .. 4b + 3 in its 128-bit lane q
  LMRUN_UNROLL
  for (int b = 0; b < 16; b += 4) {
    u[b] = _mm512_unpacklo_epi64(t[b], t[b + 2]);
    u[b + 1] = _mm512_unpackhi_epi64(t[b], t[b + 2]);
    u[b + 2] = _mm512_unpacklo_epi64(t[b + 1], t[b + 3]);
    u[b + 3] = _mm512_unpackhi_epi64(t[b + 1], t[b + 3]);
  }
  LMRUN_UNROLL
  for (int j = 0; j < 4; ++j) {
    const __m512i even01 = _mm512_shuffle_i32x4(u[j], u[4 + j], 0x88);
    const __m512i odd01 = _mm512_shuffle_i32x4(u[j], u[4 + j], 0xDD);
    const __m512i even23 = _mm512_shuffle_i32x4(u[8 + j], u[12 + j], 0x88);
    const __m512i odd23 = _mm512_shuffle_i32x4(u[8 + j], u[12 + j], 0xDD);
    rows[j] = _mm512_shuffle_i32x4(even01, even23, 0x88);
    rows[4 + j] = _mm512_shuffle_i32x4(odd01, odd23, 0x88);
    rows[8 + j] = _mm512_shuffle_i32x4(even01, even23, 0xDD);
    rows[12 + j] = _mm512_shuffle_i32x4(odd01, odd23, 0xDD);
  }
}

}  // namespace lmrun::kernels::avx512
