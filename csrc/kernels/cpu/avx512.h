// The AVX-512 variant. Only files named *_avx512.cc are compiled with AVX-512 instructions, and
// they define nothing that the linker could share with other files: all is in this namespace, and
// no inline function or template from elsewhere is used there unless it is always inlined.
#pragma once

#include "kernels/kernels.h"

namespace lmrun::kernels::avx512 {

// `has_vnni`: whether the CPU has AVX512-VNNI. Results are the same bits either way.
const OpTable& ops(bool has_vnni);

void embed(const quant::PackedMatrix& table, const int32_t* ids, int64_t rows, float* y);
void rms_norm(const float* x, const float* weight, float eps, int64_t rows, int64_t n, float* y);
void add(const float* x, int64_t n, float* y);
void silu_mul(const float* x, int64_t rows, int64_t inter, float* y);
void rope(float* x, int64_t stride, const int32_t* positions, int64_t rows, int64_t heads,
          int64_t head_dim, const float* cos, const float* sin);
void gather(const float* x, int64_t rows, int64_t k, const int32_t* order, float* y);
void gemm(const quant::PackedMatrix& w, const float* x, int64_t rows, int64_t tile_begin,
          int64_t tile_end, float* y, int64_t ldy);
void split_rows(const float* x, int64_t rows, int64_t k, const quant::DigitRows& y);
void gemm_codes_vnni(const quant::PackedMatrix& w, const quant::DigitRows& x, int64_t rows,
                     int64_t tile_begin, int64_t tile_end, float* y, int64_t ldy);
void gemm_codes_words(const quant::PackedMatrix& w, const quant::DigitRows& x, int64_t rows,
                      int64_t tile_begin, int64_t tile_end, float* y, int64_t ldy);
void quantize_rows(const float* x, int64_t rows, int64_t k, const quant::QuantizedRows& y);
void gemm_i8_vnni(const quant::PackedMatrix& w, const quant::QuantizedRows& x, int64_t rows,
                  int64_t tile_begin, int64_t tile_end, float* y, int64_t ldy);
void gemm_i8_words(const quant::PackedMatrix& w, const quant::QuantizedRows& x, int64_t rows,
                   int64_t tile_begin, int64_t tile_end, float* y, int64_t ldy);
void kv_write(const quant::KvLayout& layout, const float* k, const float* v, std::byte* head,
              int64_t slot);
void attention_vnni(const AttentionArgs& args);
void attention_words(const AttentionArgs& args);
void attention_join(const AttentionArgs& args);
void max_and_log_sum_exp(const float* x, int64_t n, float* max, float* log_sum_exp);

}  // namespace lmrun::kernels::avx512
