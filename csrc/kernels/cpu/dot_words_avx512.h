// Four pairs of bytes a lane where the CPU lacks AVX512-VNNI: they are widened to 16 bits, whose
// products and sums of two are exact in 32. (A product of bytes, `vpmaddubsw`, saturates at 16
// bits.) Included by the *_words_avx512.cc files; always inlined.
#pragma once

#include "kernels/cpu/simd_avx512.h"

namespace lmrun::kernels::avx512 {
namespace {

// Bytes 0 and 2 of each dword, and bytes 1 and 3.
struct Words {
  struct Codes {
    __m512i even;
    __m512i odd;
  };
  using Input = Codes;
  LMRUN_INLINE Codes codes(__m512i row) {
    return {_mm512_and_si512(row, _mm512_set1_epi32(0x00FF00FF)), _mm512_srli_epi16(row, 8)};
  }
  LMRUN_INLINE Input input(const int8_t* x) {
    int32_t word = 0;
    __builtin_memcpy(&word, x, sizeof(word));
    const __m512i all = _mm512_set1_epi32(word);
    return {_mm512_srai_epi16(_mm512_slli_epi16(all, 8), 8), _mm512_srai_epi16(all, 8)};
  }
  LMRUN_INLINE __m512i add(__m512i acc, const Codes& codes, const Input& input) {
    const __m512i even = _mm512_madd_epi16(codes.even, input.even);
    const __m512i odd = _mm512_madd_epi16(codes.odd, input.odd);
    return _mm512_add_epi32(acc, _mm512_add_epi32(even, odd));
  }
};

}  // namespace
}  // namespace lmrun::kernels::avx512
