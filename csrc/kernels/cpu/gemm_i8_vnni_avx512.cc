// gemm_i8 where the CPU has AVX512-VNNI: one operation for 64 products.
#include "kernels/cpu/dot_vnni_avx512.h"
#include "kernels/cpu/gemm_i8_avx512.h"

namespace lmrun::kernels::avx512 {

void gemm_i8_vnni(const PackedMatrix& w, const QuantizedRows& x, int64_t rows, int64_t tile_begin,
                  int64_t tile_end, float* y, int64_t ldy) {
  gemm_i8_of<Vnni>(w, x, rows, tile_begin, tile_end, y, ldy);
}

}  // namespace lmrun::kernels::avx512
