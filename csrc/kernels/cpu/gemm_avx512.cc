// y = x · wᵀ over tiles of 16 features, one ZMM register of 16 sums a row and tile.
//
// The float formats; all run the same loop. K is cut into blocks of kFloatBlock inputs; in a block
// each output is one chain of FMAs in order of k, from 0; then the block is added to y. Rows and
// tiles only say which chains run side by side, so no result depends on them. No std header with
// templates: see avx512.h.
#include "kernels/cpu/avx512.h"
#include "kernels/cpu/simd_avx512.h"

namespace lmrun::kernels::avx512 {
namespace {

using quant::kTileBytes;
using quant::kTileFeatures;
using quant::PackedMatrix;
using quant::WeightFormat;

constexpr int64_t kFloatBlock = 64;
constexpr int64_t kMaxRows = 16;    // rows that share one pass over the weights
constexpr int64_t kDirectRows = 4;  // up to here x is read where it lies
// Of 16 rows: 64 KiB of stack, half of an L2 way set.
constexpr int64_t kPackedInputs = 1024;
constexpr int64_t kPrefetchBytes = 1024;  // ahead in each tile

// Formats: a row of a tile is kInputs vectors; input(row, i) is input i of its 16 features.
struct F32 {
  static constexpr int kInputs = 1;
  LMRUN_INLINE __m512 input(__m512i row, int) { return _mm512_castsi512_ps(row); }
};

struct F16 {
  static constexpr int kInputs = 2;
  LMRUN_INLINE __m512 input(__m512i row, int i) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(i == 0 ? row : _mm512_srli_epi32(row, 16)));
  }
};

struct Bf16 {
  static constexpr int kInputs = 2;
  LMRUN_INLINE __m512 input(__m512i row, int i) {
    return _mm512_castsi512_ps(i == 0 ? _mm512_slli_epi32(row, 16)
                                      : _mm512_and_si512(row, _mm512_set1_epi32(0xFFFF0000u)));
  }
};

// A call's matrix with what is derived from it, and the piece in work.
struct Job {
  const PackedMatrix* w;
  int64_t tile_bytes;
  int64_t block;  // inputs of a block
  int64_t num_blocks;
  float* y;  // of row 0
  int64_t ldy;
};

// Rows in work and where their x lies: input k of row r is x[k * k_stride + r * row_stride].
struct Rows {
  const float* x;
  int64_t first;  // row of the call
  int64_t count;  // kRows or, packed, fewer: the others are zero and not stored
};

// Blocks [begin, end) of tiles [tile, tile + kTiles) for kRows rows. x of `rows` begins at block
// `begin`; packed x is [k][kRows], else [row][K].
template <class Format, int kRows, int kTiles, bool kPacked>
void run_tiles(const Job& job, const Rows& rows, int64_t tile, int64_t begin, int64_t end) {
  constexpr int kInputs = Format::kInputs;
  const PackedMatrix& w = *job.w;
  const int64_t k_stride = kPacked ? kRows : 1;
  const int64_t row_stride = kPacked ? 1 : w.k;
  const float* x = rows.x;
  const std::byte* weight =
      w.weight + tile * job.tile_bytes + begin * job.block / kInputs * kTileBytes;

  __m512 y[kRows][kTiles];
  LMRUN_UNROLL
  for (int r = 0; r < kRows; ++r) {
    LMRUN_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      y[r][t] = _mm512_setzero_ps();
      if (begin != 0 && r < rows.count) {
        const int64_t n = (tile + t) * kTileFeatures;
        y[r][t] =
            _mm512_maskz_loadu_ps(first_lanes(w.n - n), job.y + (rows.first + r) * job.ldy + n);
      }
    }
  }

  for (int64_t b = begin; b < end; ++b) {
    __m512 acc[kRows][kTiles];
    LMRUN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      LMRUN_UNROLL
      for (int t = 0; t < kTiles; ++t) acc[r][t] = _mm512_setzero_ps();
    }
    const int64_t inputs = smaller(job.block, w.k - b * job.block);
    // Past the end of these tiles lie the next ones: skip those that are being read.
    const int64_t left = ((end - b) * job.block) / kInputs * kTileBytes;
    const int64_t ahead =
        kPrefetchBytes + (kPrefetchBytes >= left ? (kTiles - 1) * job.tile_bytes : 0);
    int64_t k = 0;
    for (; k + kInputs <= inputs; k += kInputs) {
      __m512i words[kTiles];
      LMRUN_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        const std::byte* row = weight + t * job.tile_bytes;
        _mm_prefetch(reinterpret_cast<const char*>(row + ahead), _MM_HINT_T0);
        words[t] = _mm512_loadu_si512(row);
      }
      LMRUN_UNROLL
      for (int i = 0; i < kInputs; ++i) {
        __m512 codes[kTiles];
        LMRUN_UNROLL
        for (int t = 0; t < kTiles; ++t) codes[t] = Format::input(words[t], i);
        LMRUN_UNROLL
        for (int r = 0; r < kRows; ++r) {
          const __m512 value = _mm512_set1_ps(x[i * k_stride + r * row_stride]);
          LMRUN_UNROLL
          for (int t = 0; t < kTiles; ++t) acc[r][t] = _mm512_fmadd_ps(value, codes[t], acc[r][t]);
        }
      }
      x += kInputs * k_stride;
      weight += kTileBytes;
    }
    if (k < inputs) {  // an odd K of the 16-bit formats
      LMRUN_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        const __m512 code = Format::input(_mm512_loadu_si512(weight + t * job.tile_bytes), 0);
        LMRUN_UNROLL
        for (int r = 0; r < kRows; ++r) {
          acc[r][t] = _mm512_fmadd_ps(_mm512_set1_ps(x[r * row_stride]), code, acc[r][t]);
        }
      }
    }
    LMRUN_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      LMRUN_UNROLL
      for (int r = 0; r < kRows; ++r) y[r][t] = _mm512_add_ps(y[r][t], acc[r][t]);
    }
  }

  LMRUN_UNROLL
  for (int t = 0; t < kTiles; ++t) {
    const int64_t n = (tile + t) * kTileFeatures;
    const __mmask16 mask = first_lanes(w.n - n);
    const bool has_bias = w.bias != nullptr && end == job.num_blocks;
    const __m512 bias = has_bias ? _mm512_maskz_loadu_ps(mask, w.bias + n) : _mm512_setzero_ps();
    LMRUN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      if (kPacked && r >= rows.count) break;
      if (has_bias) y[r][t] = _mm512_add_ps(y[r][t], bias);
      _mm512_mask_storeu_ps(job.y + (rows.first + r) * job.ldy + n, mask, y[r][t]);
    }
  }
}

// Few rows: x where it lies, several tiles at once so that enough chains are in flight.
template <class Format, int kRows>
void run_direct(const Job& job, const Rows& rows, int64_t tile, int64_t tile_end) {
  constexpr int kTiles = 4;
  for (; tile + kTiles <= tile_end; tile += kTiles) {
    run_tiles<Format, kRows, kTiles, false>(job, rows, tile, 0, job.num_blocks);
  }
  if (tile + 2 <= tile_end) {
    run_tiles<Format, kRows, 2, false>(job, rows, tile, 0, job.num_blocks);
    tile += 2;
  }
  if (tile < tile_end) run_tiles<Format, kRows, 1, false>(job, rows, tile, 0, job.num_blocks);
}

// packed[k][kRows] = x[r][begin + k]; rows past `count` are zero. Writes 16 floats too many.
template <int kRows>
void pack_rows(const float* x, int64_t stride, int64_t count, int64_t inputs, float* packed) {
  for (int64_t k = 0; k < inputs; k += 16) {
    const __mmask16 mask = first_lanes(inputs - k);
    __m512i block[16];
    LMRUN_UNROLL
    for (int r = 0; r < 16; ++r) {
      block[r] =
          r < count ? _mm512_maskz_loadu_epi32(mask, x + r * stride + k) : _mm512_setzero_si512();
    }
    transpose16(block);
    const int64_t valid = smaller(16, inputs - k);
    for (int64_t j = 0; j < valid; ++j) {  // in order: a store's surplus is overwritten by the next
      _mm512_storeu_si512(packed + (k + j) * kRows, block[j]);
    }
  }
}

// Many rows: x is packed a stretch of K at a time, so that a broadcast reads one stream; rows that
// lie a multiple of 4 KiB apart would share the ways of one L1 set.
template <class Format, int kRows>
void run_packed(const Job& job, const float* x, int64_t first, int64_t count, int64_t tile_begin,
                int64_t tile_end) {
  alignas(64) float packed[kPackedInputs * kRows + 16];
  const int64_t step = kPackedInputs / job.block;
  for (int64_t begin = 0; begin < job.num_blocks; begin += step) {
    const int64_t end = smaller(begin + step, job.num_blocks);
    const int64_t k = begin * job.block;
    const int64_t inputs = smaller(end * job.block, job.w->k) - k;
    pack_rows<kRows>(x + first * job.w->k + k, job.w->k, count, inputs, packed);
    for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
      run_tiles<Format, kRows, 1, true>(job, {packed, first, count}, tile, begin, end);
    }
  }
}

template <class Format>
void run_rows(const Job& job, const float* x, int64_t first, int64_t count, int64_t tile_begin,
              int64_t tile_end) {
  const Rows rows = {x + first * job.w->k, first, count};
  switch (count) {
    case 1:
      return run_direct<Format, 1>(job, rows, tile_begin, tile_end);
    case 2:
      return run_direct<Format, 2>(job, rows, tile_begin, tile_end);
    case 3:
      return run_direct<Format, 3>(job, rows, tile_begin, tile_end);
    case 4:
      return run_direct<Format, 4>(job, rows, tile_begin, tile_end);
    case 5:
    case 6:
      return run_packed<Format, 6>(job, x, first, count, tile_begin, tile_end);
    case 7:
    case 8:
      return run_packed<Format, 8>(job, x, first, count, tile_begin, tile_end);
    case 9:
    case 10:
      return run_packed<Format, 10>(job, x, first, count, tile_begin, tile_end);
    case 11:
    case 12:
      return run_packed<Format, 12>(job, x, first, count, tile_begin, tile_end);
    case 13:
    case 14:
      return run_packed<Format, 14>(job, x, first, count, tile_begin, tile_end);
    default:
      return run_packed<Format, 16>(job, x, first, count, tile_begin, tile_end);
  }
}

template <class Format>
void run(const Job& job, const float* x, int64_t rows, int64_t tile_begin, int64_t tile_end) {
  const int64_t passes = (rows + kMaxRows - 1) / kMaxRows;
  for (int64_t pass = 0; pass < passes; ++pass) {  // as even as possible
    const int64_t first = pass * rows / passes;
    const int64_t count = (pass + 1) * rows / passes - first;
    run_rows<Format>(job, x, first, count, tile_begin, tile_end);
  }
}

}  // namespace

void gemm(const PackedMatrix& w, const float* x, int64_t rows, int64_t tile_begin, int64_t tile_end,
          float* y, int64_t ldy) {
  const Job job = {&w, w.tile_bytes(), kFloatBlock, (w.k + kFloatBlock - 1) / kFloatBlock, y, ldy};
  switch (w.format) {
    case WeightFormat::kF32:
      return run<F32>(job, x, rows, tile_begin, tile_end);
    case WeightFormat::kF16:
      return run<F16>(job, x, rows, tile_begin, tile_end);
    case WeightFormat::kBf16:
      return run<Bf16>(job, x, rows, tile_begin, tile_end);
    case WeightFormat::kU4:  // gemm_codes takes them
    case WeightFormat::kU8:
    case WeightFormat::kI8:  // gemm_i8 takes it
      return;
  }
}

}  // namespace lmrun::kernels::avx512
