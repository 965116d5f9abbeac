// The AMX variant: the AVX-512 one, but for products of integers with enough rows, which run on
// tiles. Results are the same bits either way. The rules of avx512.h hold for *_amx_avx512.cc too.
#pragma once

#include "kernels/kernels.h"

namespace lmrun::kernels::amx {

// The first call measures from how many rows on tiles pay; it takes some milliseconds.
const OpTable& ops();

// Rows from which tiles are chosen; measured once, in the second-level cache. Of kU4 and kU8, by
// digits of the inputs, and of kI8 (`num_digits` is 1).
int64_t crossover_rows(quant::WeightFormat format, int64_t num_digits);

// As in the op table, on tiles whatever the number of rows. They need what missing_for_amx() of the
// CPU names, and permission from the operating system.
void gemm_codes_tiles(const quant::PackedMatrix& w, const quant::DigitRows& x, int64_t rows,
                      int64_t tile_begin, int64_t tile_end, float* y, int64_t ldy);
void gemm_i8_tiles(const quant::PackedMatrix& w, const quant::QuantizedRows& x, int64_t rows,
                   int64_t tile_begin, int64_t tile_end, float* y, int64_t ldy);

}  // namespace lmrun::kernels::amx
