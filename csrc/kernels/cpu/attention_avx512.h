// The vector operations of attention on AVX-512, but for products of bytes. Included by the
// *_avx512.cc files that add those; no std header with templates: see avx512.h.
#pragma once

#include "kernels/cpu/attention_simd.h"
#include "kernels/cpu/avx512.h"
#include "kernels/cpu/simd_avx512.h"

namespace lmrun::kernels::avx512 {
namespace {

// Dot: Vnni or Words.
template <class Dot>
struct AttentionVectors {
  using Floats = __m512;
  using Ints = __m512i;
  using Bytes = typename Dot::Codes;
  using Nibbles = Bytes;
  static constexpr bool kHas32Registers = true;

  LMRUN_INLINE Floats set(float x) { return _mm512_set1_ps(x); }
  LMRUN_INLINE Ints set_int(int32_t x) { return _mm512_set1_epi32(x); }
  LMRUN_INLINE float first(Floats x) { return _mm512_cvtss_f32(x); }
  LMRUN_INLINE Floats load(const float* at) { return _mm512_loadu_ps(at); }
  LMRUN_INLINE void store(float* at, Floats x) { _mm512_storeu_ps(at, x); }
  // The first `lanes` lanes, all where there are more; the others are 0.
  LMRUN_INLINE Floats load_first(const float* at, int64_t lanes) {
    return _mm512_maskz_loadu_ps(first_lanes(lanes), at);
  }
  LMRUN_INLINE void store_first(float* at, Floats x, int64_t lanes) {
    _mm512_mask_storeu_ps(at, first_lanes(lanes), x);
  }
  LMRUN_INLINE Floats load_halves(const std::byte* at, int64_t lanes) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(lanes), at));
  }
  LMRUN_INLINE Ints load_words(const std::byte* at, int64_t lanes) {
    return _mm512_maskz_loadu_epi32(first_lanes(lanes), at);
  }
  LMRUN_INLINE Floats first_or(int64_t lanes, Floats x, Floats other) {
    return _mm512_mask_mov_ps(other, first_lanes(lanes), x);
  }
  LMRUN_INLINE Floats low_halves(Ints words) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words));
  }
  LMRUN_INLINE Floats high_halves(Ints words) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(words, 16)));
  }
  LMRUN_INLINE void store_low_bytes(int8_t* at, Ints x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at), _mm512_cvtepi32_epi8(x));
  }
  LMRUN_INLINE Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  LMRUN_INLINE Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  LMRUN_INLINE Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
  LMRUN_INLINE Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  LMRUN_INLINE Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
  LMRUN_INLINE Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  // The second where one is NaN.
  LMRUN_INLINE Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
  LMRUN_INLINE Floats abs(Floats a) { return _mm512_abs_ps(a); }
  LMRUN_INLINE Floats exp2(Floats x) { return exp2_16(x); }
  LMRUN_INLINE Ints round(Floats x) { return _mm512_cvtps_epi32(x); }
  LMRUN_INLINE Floats to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
  template <int kBits>
  LMRUN_INLINE Ints shift_right(Ints x) {
    return _mm512_srai_epi32(x, kBits);
  }
  LMRUN_INLINE float reduce_max(Floats x) { return _mm512_reduce_max_ps(x); }
  LMRUN_INLINE float reduce_add(Floats x) { return _mm512_reduce_add_ps(x); }
  // Wraps around, as codes of inputs that are not finite may; the compiler's own sum must not.
  LMRUN_INLINE int32_t reduce_sum(Ints x) {
    const __m256i eight =
        _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    const __m128i four =
        _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
  }
  LMRUN_INLINE void prefetch(const std::byte* at) {
    _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T0);
  }
  LMRUN_INLINE Bytes bytes(Ints codes) { return Dot::codes(codes); }
  // The low and the high four bits of each byte.
  LMRUN_INLINE void nibbles(Ints codes, Bytes* both) {
    const Ints mask = _mm512_set1_epi8(15);
    both[0] = Dot::codes(_mm512_and_si512(codes, mask));
    both[1] = Dot::codes(_mm512_and_si512(_mm512_srli_epi16(codes, 4), mask));
  }
  // sum + the four products of a lane: codes unsigned, digits signed and the same in all lanes.
  LMRUN_INLINE Ints dot(Ints sum, Bytes codes, const int8_t* digits) {
    return Dot::add(sum, codes, Dot::input(digits));
  }
};

}  // namespace
}  // namespace lmrun::kernels::avx512
