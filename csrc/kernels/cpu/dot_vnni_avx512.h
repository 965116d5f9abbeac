// Four pairs of bytes a lane, multiplied and added up by AVX512-VNNI. Included by the
// *_vnni_avx512.cc files; always inlined.
#pragma once

#include "kernels/cpu/simd_avx512.h"

namespace lmrun::kernels::avx512 {
namespace {

struct Vnni {
  using Codes = __m512i;
  using Input = __m512i;
  LMRUN_INLINE Codes codes(__m512i row) { return row; }
  LMRUN_INLINE Input input(const int8_t* x) {
    int32_t word = 0;
    __builtin_memcpy(&word, x, sizeof(word));
    return _mm512_set1_epi32(word);
  }
  LMRUN_INLINE __m512i add(__m512i acc, Codes codes, Input input) {
    return _mm512_dpbusd_epi32(acc, codes, input);
  }
};

}  // namespace
}  // namespace lmrun::kernels::avx512
