// gemm_i8 where the CPU lacks AVX512-VNNI.
#include "kernels/cpu/dot_words_avx512.h"
#include "kernels/cpu/gemm_i8_avx512.h"

namespace lmrun::kernels::avx512 {

void gemm_i8_words(const PackedMatrix& w, const QuantizedRows& x, int64_t rows, int64_t tile_begin,
                   int64_t tile_end, float* y, int64_t ldy) {
  gemm_i8_of<Words>(w, x, rows, tile_begin, tile_end, y, ldy);
}

}  // namespace lmrun::kernels::avx512
