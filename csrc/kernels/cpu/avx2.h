// The AVX2 variant, for CPUs with AVX2, FMA and F16C. The rules of avx512.h hold for *_avx2.cc:
// all is in this namespace, and nothing inline from elsewhere is used unless it is always inlined.
// What costs little stays with the reference.
#pragma once

#include "kernels/kernels.h"

namespace lmrun::kernels::avx2 {

const OpTable& ops();

void rms_norm(const float* x, const float* weight, float eps, int64_t rows, int64_t n, float* y);
void add(const float* x, int64_t n, float* y);
void silu_mul(const float* x, int64_t rows, int64_t inter, float* y);
void rope(float* x, int64_t stride, const int32_t* positions, int64_t rows, int64_t heads,
          int64_t head_dim, const float* cos, const float* sin);
void gemm(const quant::PackedMatrix& w, const float* x, int64_t rows, int64_t tile_begin,
          int64_t tile_end, float* y, int64_t ldy);
void split_rows(const float* x, int64_t rows, int64_t k, const quant::DigitRows& y);
void gemm_codes(const quant::PackedMatrix& w, const quant::DigitRows& x, int64_t rows,
                int64_t tile_begin, int64_t tile_end, float* y, int64_t ldy);
void gemm_i8(const quant::PackedMatrix& w, const quant::QuantizedRows& x, int64_t rows,
             int64_t tile_begin, int64_t tile_end, float* y, int64_t ldy);
void attention(const AttentionArgs& args);
void attention_join(const AttentionArgs& args);

}  // namespace lmrun::kernels::avx2
