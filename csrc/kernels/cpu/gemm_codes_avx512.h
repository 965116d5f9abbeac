// The loops of gemm_codes, over a way to multiply four pairs of bytes a lane. Included by the two
// *_avx512.cc files that provide one; no std header with templates: see avx512.h.
//
// A tile row is one dword of codes a feature (4-bit: the low nibbles, then the high ones). A dword
// of one digit of a row's inputs, broadcast, meets it in one operation of 64 products. Sums of
// integers are exact, so rows and tiles only say what goes side by side.
#pragma once

#include "kernels/cpu/avx512.h"
#include "kernels/cpu/digits_avx512.h"
#include "kernels/cpu/simd_avx512.h"

namespace lmrun::kernels::avx512 {
namespace {

using quant::DigitRows;
using quant::kTileBytes;
using quant::kTileFeatures;
using quant::PackedMatrix;
using quant::WeightFormat;

constexpr int64_t kCodesPrefetchBytes = 8192;  // ahead
constexpr int kEnoughChains = 8;

struct U4Codes {
  static constexpr int kInputs = 8;
  static constexpr int kHalves = 2;
  LMRUN_INLINE __m512i codes(__m512i row, int half) {
    const __m512i nibbles = _mm512_set1_epi8(15);
    return _mm512_and_si512(half == 0 ? row : _mm512_srli_epi16(row, 4), nibbles);
  }
};

struct U8Codes {
  static constexpr int kInputs = 4;
  static constexpr int kHalves = 1;
  LMRUN_INLINE __m512i codes(__m512i row, int) { return row; }
};

struct CodesJob {
  const PackedMatrix* w;
  const DigitRows* x;
  int64_t tile_bytes;
  int64_t num_blocks;
  int64_t num_groups;
  int64_t blocks_per_group;
  float* y;
  int64_t ldy;
};

// One tile of rows [first, first + kRows). Tiles follow each other in memory and are read one by
// one, as a single stream: two side by side come at two thirds of its speed.
template <class Dot, class Format, int kDigits, int kRows>
void run_codes(const CodesJob& job, int64_t first, int64_t tile) {
  // Apart for the halves of a tile row where few chains of additions would hide no latency.
  constexpr int kChains = kRows * kDigits < kEnoughChains ? Format::kHalves : 1;
  const PackedMatrix& w = *job.w;
  const int64_t stride = job.x->stride;
  const int8_t* x = job.x->digits + first * kDigits * stride;
  const std::byte* weight = w.weight + tile * job.tile_bytes;
  __m512 y[kRows];
  LMRUN_UNROLL
  for (int r = 0; r < kRows; ++r) y[r] = _mm512_setzero_ps();
  for (int64_t b = 0; b < job.num_blocks; ++b) {
    __m512i acc[kChains][kRows][kDigits];
    LMRUN_UNROLL
    for (int c = 0; c < kChains; ++c) {
      LMRUN_UNROLL
      for (int r = 0; r < kRows; ++r) {
        LMRUN_UNROLL
        for (int d = 0; d < kDigits; ++d) acc[c][r][d] = _mm512_setzero_si512();
      }
    }
    for (int64_t k = 0; k < job.x->block; k += Format::kInputs) {
      _mm_prefetch(reinterpret_cast<const char*>(weight + kCodesPrefetchBytes), _MM_HINT_T0);
      const __m512i loaded = _mm512_loadu_si512(weight);
      LMRUN_UNROLL
      for (int h = 0; h < Format::kHalves; ++h) {
        const typename Dot::Codes codes = Dot::codes(Format::codes(loaded, h));
        LMRUN_UNROLL
        for (int r = 0; r < kRows; ++r) {
          LMRUN_UNROLL
          for (int d = 0; d < kDigits; ++d) {
            __m512i& sum = acc[h % kChains][r][d];
            sum = Dot::add(sum, codes, Dot::input(x + (r * kDigits + d) * stride + 4 * h));
          }
        }
      }
      x += Format::kInputs;
      weight += kTileBytes;
    }
    const int64_t group = job.blocks_per_group == 1 ? b : b / job.blocks_per_group;
    const int64_t params = (tile * job.num_groups + group) * kTileFeatures;
    const __m512 scale = w.scale32 != nullptr
                             ? _mm512_loadu_ps(w.scale32 + params)
                             : _mm512_cvtph_ps(_mm256_loadu_si256(
                                   reinterpret_cast<const __m256i*>(w.scale16 + params)));
    const __m512 zero = _mm512_cvtepi32_ps(
        _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w.zero + params))));
    LMRUN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int64_t at = (first + r) * job.num_blocks + b;
      LMRUN_UNROLL
      for (int d = 0; d < kDigits; ++d) {
        if constexpr (kChains == 2) acc[0][r][d] = _mm512_add_epi32(acc[0][r][d], acc[1][r][d]);
      }
      const __m512 dot =
          _mm512_mul_ps(join_digits<kDigits>(acc[0][r]), _mm512_set1_ps(job.x->unit[at]));
      const __m512 centred = _mm512_fnmadd_ps(zero, _mm512_set1_ps(job.x->sum[at]), dot);
      y[r] = _mm512_fmadd_ps(scale, centred, y[r]);
    }
  }
  const int64_t n = tile * kTileFeatures;
  const __mmask16 mask = first_lanes(w.n - n);
  LMRUN_UNROLL
  for (int r = 0; r < kRows; ++r) {
    if (w.bias != nullptr) y[r] = _mm512_add_ps(y[r], _mm512_maskz_loadu_ps(mask, w.bias + n));
    _mm512_mask_storeu_ps(job.y + (first + r) * job.ldy + n, mask, y[r]);
  }
}

// All rows of one tile after another: its weights stay in L1 or L2 while the rows pass.
template <class Dot, class Format, int kDigits>
void run_codes_tiles(const CodesJob& job, int64_t rows, int64_t tile, int64_t tile_end) {
  for (; tile < tile_end; ++tile) {
    int64_t row = 0;
    for (; row + 4 <= rows; row += 4) run_codes<Dot, Format, kDigits, 4>(job, row, tile);
    if (row + 2 <= rows) {
      run_codes<Dot, Format, kDigits, 2>(job, row, tile);
      row += 2;
    }
    if (row < rows) run_codes<Dot, Format, kDigits, 1>(job, row, tile);
  }
}

template <class Dot, class Format>
void run_codes_digits(const CodesJob& job, int64_t rows, int64_t tile, int64_t tile_end) {
  switch (job.x->num_digits) {
    case 1:
      return run_codes_tiles<Dot, Format, 1>(job, rows, tile, tile_end);
    case 2:
      return run_codes_tiles<Dot, Format, 2>(job, rows, tile, tile_end);
    default:
      return run_codes_tiles<Dot, Format, 3>(job, rows, tile, tile_end);
  }
}

template <class Dot>
void gemm_codes_of(const PackedMatrix& w, const DigitRows& x, int64_t rows, int64_t tile_begin,
                   int64_t tile_end, float* y, int64_t ldy) {
  const CodesJob job = {
      &w, &x, w.tile_bytes(), w.k / x.block, w.num_groups(), w.group_size / x.block, y, ldy};
  if (w.format == WeightFormat::kU4) {
    run_codes_digits<Dot, U4Codes>(job, rows, tile_begin, tile_end);
  } else {
    run_codes_digits<Dot, U8Codes>(job, rows, tile_begin, tile_end);
  }
}

}  // namespace
}  // namespace lmrun::kernels::avx512
