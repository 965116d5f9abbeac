// gemm_i8 where the CPU has AVX512-VNNI: one operation for 64 products.
#include "kernels/cpu/gemm_i8_avx512.h"

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

void gemm_i8_vnni(const PackedMatrix& w, const QuantizedRows& x, int64_t rows, int64_t tile_begin,
                  int64_t tile_end, float* y, int64_t ldy) {
  gemm_i8_of<Vnni>(w, x, rows, tile_begin, tile_end, y, ldy);
}

}  // namespace lmrun::kernels::avx512
