// The loops of gemm_i8, over a way to multiply four pairs of bytes a lane. Included by the two
// *_avx512.cc files that provide one; no std header with templates: see avx512.h.
//
// A tile row is 16 features x 4 inputs, one dword a feature. A dword of a row's codes, broadcast,
// meets it in one VNNI operation; codes of weights are unsigned and those of x signed, as it wants.
// The weights' offset comes off at the end: sum of q (code - 128) = sum of q code - 128 sum of q.
// int32 wraps on the way and is exact at the end, so the order of the sums is free.
#pragma once

#include "kernels/cpu/avx512.h"
#include "kernels/cpu/simd_avx512.h"

namespace lmrun::kernels::avx512 {
namespace {

using quant::kTileBytes;
using quant::kTileFeatures;
using quant::kU8TileInputs;
using quant::PackedMatrix;
using quant::QuantizedRows;

constexpr int64_t kI8Rows = 4;              // with 4 tiles: 16 chains
constexpr int64_t kI8PrefetchBytes = 1024;  // ahead in each tile

struct I8Job {
  const PackedMatrix* w;
  const QuantizedRows* x;
  int64_t tile_bytes;
  int64_t words;  // rows of a tile
  float* y;
  int64_t ldy;
};

// Tiles [tile, tile + kTiles) of rows [first, first + kRows).
template <class Dot, int kRows, int kTiles>
void run_i8(const I8Job& job, int64_t first, int64_t tile) {
  const PackedMatrix& w = *job.w;
  const std::byte* weight = w.weight + tile * job.tile_bytes;
  const int8_t* x = job.x->codes + first * job.x->stride;
  __m512i acc[kRows][kTiles];
  LMRUN_UNROLL
  for (int r = 0; r < kRows; ++r) {
    LMRUN_UNROLL
    for (int t = 0; t < kTiles; ++t) acc[r][t] = _mm512_setzero_si512();
  }
  for (int64_t i = 0; i < job.words; ++i) {
    typename Dot::Codes codes[kTiles];
    LMRUN_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      const std::byte* row = weight + t * job.tile_bytes;
      _mm_prefetch(reinterpret_cast<const char*>(row + kI8PrefetchBytes), _MM_HINT_T0);
      codes[t] = Dot::codes(_mm512_loadu_si512(row));
    }
    LMRUN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const typename Dot::Input input = Dot::input(x + r * job.x->stride);
      LMRUN_UNROLL
      for (int t = 0; t < kTiles; ++t) acc[r][t] = Dot::add(acc[r][t], codes[t], input);
    }
    weight += kTileBytes;
    x += kU8TileInputs;
  }
  LMRUN_UNROLL
  for (int t = 0; t < kTiles; ++t) {
    const int64_t n = (tile + t) * kTileFeatures;
    const __mmask16 mask = first_lanes(w.n - n);
    const __m512 scale = _mm512_loadu_ps(w.scale32 + n);
    LMRUN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int64_t row = first + r;
      const __m512i offset = _mm512_set1_epi32(static_cast<int32_t>(
          static_cast<uint32_t>(job.x->sum[row]) * static_cast<uint32_t>(quant::kI8Offset)));
      const __m512 dot = _mm512_cvtepi32_ps(_mm512_sub_epi32(acc[r][t], offset));
      const __m512 factor = _mm512_mul_ps(_mm512_set1_ps(job.x->scale[row]), scale);
      __m512 y = _mm512_mul_ps(dot, factor);
      if (w.bias != nullptr) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, w.bias + n));
      _mm512_mask_storeu_ps(job.y + row * job.ldy + n, mask, y);
    }
  }
}

template <class Dot, int kTiles>
void run_i8_rows(const I8Job& job, int64_t first, int64_t count, int64_t tile) {
  switch (count) {
    case 1:
      return run_i8<Dot, 1, kTiles>(job, first, tile);
    case 2:
      return run_i8<Dot, 2, kTiles>(job, first, tile);
    case 3:
      return run_i8<Dot, 3, kTiles>(job, first, tile);
    default:
      return run_i8<Dot, 4, kTiles>(job, first, tile);
  }
}

// All rows of some tiles: their weights stay in L2 while the rows pass.
template <class Dot, int kTiles>
void run_i8_tiles(const I8Job& job, int64_t rows, int64_t tile) {
  const int64_t passes = (rows + kI8Rows - 1) / kI8Rows;
  for (int64_t pass = 0; pass < passes; ++pass) {  // as even as possible
    const int64_t first = pass * rows / passes;
    run_i8_rows<Dot, kTiles>(job, first, (pass + 1) * rows / passes - first, tile);
  }
}

template <class Dot>
void gemm_i8_of(const PackedMatrix& w, const QuantizedRows& x, int64_t rows, int64_t tile_begin,
                int64_t tile_end, float* y, int64_t ldy) {
  const I8Job job = {&w, &x, w.tile_bytes(), w.tile_bytes() / kTileBytes, y, ldy};
  int64_t tile = tile_begin;
  for (; tile + 4 <= tile_end; tile += 4) run_i8_tiles<Dot, 4>(job, rows, tile);
  for (; tile + 2 <= tile_end; tile += 2) run_i8_tiles<Dot, 2>(job, rows, tile);
  if (tile < tile_end) run_i8_tiles<Dot, 1>(job, rows, tile);
}

}  // namespace
}  // namespace lmrun::kernels::avx512
