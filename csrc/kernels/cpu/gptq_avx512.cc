// 64 rows at a time, whose changes of a block (32 KiB) stay in the L1 cache; one FMA chain a row
// and feature. No std header with templates: see avx512.h.
#include "kernels/cpu/simd_avx512.h"
#include "kernels/gptq.h"

namespace lmrun::kernels::avx512 {
namespace {

constexpr int kVectors = 4;

// Rows [n, n + 16 * kVectors) of a block; `columns` is feedback by columns, kGptqBlock floats each.
void solve_rows(const GptqBlockArgs& args, const float* columns, int64_t n) {
  const int64_t rows = args.rows;
  __mmask16 masks[kVectors];
  __m512 error[kVectors];
  LMRUN_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    const int64_t left = rows - n - 16 * v;
    masks[v] = left > 0 ? first_lanes(left) : __mmask16{0};
    error[v] = _mm512_maskz_loadu_ps(masks[v], args.error + n + 16 * v);
  }
  for (int64_t i = args.features - 1; i >= 0; --i) {
    const int64_t place = i * rows + n;
    __m512 target[kVectors];
    LMRUN_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      target[v] = _mm512_maskz_loadu_ps(masks[v], args.wanted + place + 16 * v);
    }
    const float* column = columns + i * kGptqBlock;
    const float* change = args.change + (i + 1) * rows + n;
    for (int64_t j = i + 1; j < args.features; ++j, change += rows) {
      const __m512 share = _mm512_set1_ps(column[j]);
      LMRUN_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        const __m512 other = _mm512_maskz_loadu_ps(masks[v], change + 16 * v);
        target[v] = _mm512_fnmadd_ps(share, other, target[v]);
      }
    }
    const int64_t group = args.group[i] * rows + n;
    const __m512 cost = _mm512_set1_ps(args.cost[i]);
    LMRUN_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const __mmask16 mask = masks[v];
      const int64_t at = place + 16 * v;
      const int64_t of_group = group + 16 * v;
      // 1 in the lanes past the last row: nothing there divides by zero
      const __m512 scale = _mm512_mask_loadu_ps(_mm512_set1_ps(1.0f), mask, args.scale + of_group);
      const __m512 zero = _mm512_maskz_loadu_ps(mask, args.zero + of_group);
      const __m512 inverse = _mm512_div_ps(_mm512_set1_ps(1.0f), scale);
      __m512 value = _mm512_roundscale_ps(_mm512_mul_ps(target[v], inverse),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
      value = _mm512_max_ps(value, _mm512_sub_ps(_mm512_setzero_ps(), zero));
      value = _mm512_min_ps(value, _mm512_sub_ps(_mm512_set1_ps(args.top), zero));
      const __m512 rounded = _mm512_mul_ps(value, scale);
      const __m512 wrong = _mm512_sub_ps(rounded, target[v]);
      error[v] = _mm512_fmadd_ps(_mm512_mul_ps(wrong, wrong), cost, error[v]);
      const __m512 weight = _mm512_maskz_loadu_ps(mask, args.weight + at);
      _mm512_mask_storeu_ps(args.wanted + at, mask, target[v]);
      _mm512_mask_storeu_ps(args.change + at, mask, _mm512_sub_ps(rounded, weight));
      const __m512i code = _mm512_cvtps_epi32(_mm512_add_ps(value, zero));
      _mm512_mask_cvtepi32_storeu_epi8(args.codes + at, mask, code);
      float* products = args.products + of_group;
      float* squares = args.squares + of_group;
      const __m512 weighed = _mm512_mul_ps(value, cost);
      const __m512 product =
          _mm512_fmadd_ps(weighed, target[v], _mm512_maskz_loadu_ps(mask, products));
      const __m512 square = _mm512_fmadd_ps(weighed, value, _mm512_maskz_loadu_ps(mask, squares));
      _mm512_mask_storeu_ps(products, mask, product);
      _mm512_mask_storeu_ps(squares, mask, square);
    }
  }
  LMRUN_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    _mm512_mask_storeu_ps(args.error + n + 16 * v, masks[v], error[v]);
  }
}

}  // namespace

void solve_gptq_block(const GptqBlockArgs& args) {
  alignas(64) float columns[kGptqBlock * kGptqBlock];  // 64 KiB, once for all rows
  for (int64_t j = 0; j < args.features; ++j) {
    for (int64_t i = 0; i < j; ++i) {
      columns[i * kGptqBlock + j] = args.feedback[j * args.feedback_row + i * args.feedback_column];
    }
  }
  for (int64_t n = 0; n < args.rows; n += 16 * kVectors) solve_rows(args, columns, n);
}

}  // namespace lmrun::kernels::avx512
