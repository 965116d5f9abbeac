// gemm_codes and gemm_i8 on AMX tiles. A product of tiles takes 16 rows of 64 int8 inputs and 16
// features' 64 unsigned codes to 16 x 16 sums of int32.
//
// A row of inputs in digits is num_digits rows of int8 side by side, so the left tiles take digits
// of as many rows of x as fit: 16, 8 or 5. The right tiles are the matrix as it is stored, or its
// 4-bit codes widened to bytes, some hundred inputs at a time, once for all rows. Sums stay in
// their tiles for a whole block (gemm_codes) or all of K (gemm_i8); they are exact, and joined by
// the operations of the other variants, so results are the same bits. No std header with templates:
// see avx512.h.
#include "kernels/cpu/amx.h"
#include "kernels/cpu/digits_avx512.h"
#include "kernels/cpu/simd_avx512.h"
#include "kernels/cpu/tiles_amx.h"

namespace lmrun::kernels::amx {
namespace {

using avx512::first_lanes;
using avx512::smaller;
using quant::DigitRows;
using quant::kMostBlockInputs;
using quant::kTileBytes;
using quant::kTileFeatures;
using quant::kU4TileInputs;
using quant::PackedMatrix;
using quant::QuantizedRows;
using quant::WeightFormat;

// Inputs that are widened at a time, of 2 or 4 tiles, if the block is no longer: 16 or 32 KiB,
// which stay in L1 while the rows pass.
constexpr int64_t kStretchInputs = 512;
constexpr int64_t kMostLeft = 2;   // tiles of inputs
constexpr int64_t kMostRight = 4;  // tiles of codes
constexpr int64_t kI8AheadBytes = 4096;
constexpr int64_t kSumsOfTile = kTileRows * kTileWords;

// Shapes of the tiles: sums 0 .. 3 (left l and right r: l * kRight + r), then the left ones, then
// the right ones, which share registers where there are four.
struct Shapes {
  int64_t left_rows[kMostLeft];  // 0: not used
  int64_t num_right;
  int64_t inputs;  // of a product of tiles: a multiple of 4, at most 64
};

LMRUN_INLINE bool are_equal(const Shapes& a, const Shapes& b) {
  return a.left_rows[0] == b.left_rows[0] && a.left_rows[1] == b.left_rows[1] &&
         a.num_right == b.num_right && a.inputs == b.inputs;
}

LMRUN_INLINE void set_shape(TileConfig* config, int64_t tile, int64_t rows, int64_t bytes) {
  config->rows[tile] = static_cast<uint8_t>(rows);
  config->row_bytes[tile] = static_cast<uint16_t>(bytes);
}

constexpr int kFirstLeft = 4;

template <int kLeft>
constexpr int right_tile(int right) {
  return kLeft == 2 ? 6 + right : 5 + right % 3;
}

// Tells the tiles their shapes, unless they have them.
template <int kLeft, int kRight>
void configure(const Shapes& wanted, Shapes* current) {
  if (are_equal(wanted, *current)) return;
  TileConfig config = {};
  config.palette = 1;
  LMRUN_UNROLL
  for (int l = 0; l < kLeft; ++l) {
    LMRUN_UNROLL
    for (int r = 0; r < kRight; ++r) {
      set_shape(&config, l * kRight + r, wanted.left_rows[l], kRowBytes);
    }
    set_shape(&config, kFirstLeft + l, wanted.left_rows[l], wanted.inputs);
  }
  LMRUN_UNROLL
  for (int r = 0; r < kRight; ++r) {
    set_shape(&config, right_tile<kLeft>(r), wanted.inputs / 4, kRowBytes);
  }
  configure_tiles(config);
  *current = wanted;
}

// What to fetch from memory meanwhile: `lines` cache lines of each right tile, a product of tiles.
struct Ahead {
  const std::byte* from;
  int64_t apart;  // from one right tile to the next
  int64_t lines;
};

// `steps` products of tiles, summed up. Left tile l: rows at left[l], `left_stride` apart. Right
// tile r: at right + r * right_apart, 64 bytes for 4 inputs. Sums of (l, r) end at
// sums + (l * kRight + r) * kSumsOfTile.
template <int kLeft, int kRight>
void sum_tiles(const int8_t* const (&left)[kMostLeft], int64_t left_stride, const std::byte* right,
               int64_t right_apart, int64_t steps, int64_t inputs, Ahead ahead, int32_t* sums) {
  zero_tile<0>();
  if constexpr (kRight > 1) zero_tile<1>();
  if constexpr (kRight > 2) {
    zero_tile<2>();
    zero_tile<3>();
  }
  if constexpr (kLeft > 1) {
    zero_tile<kRight>();
    if constexpr (kRight > 1) zero_tile<kRight + 1>();
  }
  constexpr int kA0 = kFirstLeft;
  constexpr int kA1 = kFirstLeft + 1;
  for (int64_t step = 0; step < steps; ++step) {
    const int64_t at = step * inputs;
    const std::byte* codes = right + at * kTileFeatures;
    load_tile<kA0>(left[0] + at, left_stride);
    load_tile<right_tile<kLeft>(0)>(codes, kRowBytes);
    multiply_tiles<0, kA0, right_tile<kLeft>(0)>();
    if constexpr (kLeft > 1) {
      load_tile<kA1>(left[1] + at, left_stride);
      multiply_tiles<kRight, kA1, right_tile<kLeft>(0)>();
    }
    if constexpr (kRight > 1) {
      load_tile<right_tile<kLeft>(1)>(codes + right_apart, kRowBytes);
      multiply_tiles<1, kA0, right_tile<kLeft>(1)>();
      if constexpr (kLeft > 1) multiply_tiles<kRight + 1, kA1, right_tile<kLeft>(1)>();
    }
    if constexpr (kRight > 2) {
      load_tile<right_tile<kLeft>(2)>(codes + 2 * right_apart, kRowBytes);
      multiply_tiles<2, kA0, right_tile<kLeft>(2)>();
      load_tile<right_tile<kLeft>(3)>(codes + 3 * right_apart, kRowBytes);
      multiply_tiles<3, kA0, right_tile<kLeft>(3)>();
    }
    for (int r = 0; r < kRight; ++r) {
      for (int64_t line = 0; line < ahead.lines; ++line) {
        _mm_prefetch(reinterpret_cast<const char*>(ahead.from + r * ahead.apart +
                                                   (step * ahead.lines + line) * kTileBytes),
                     _MM_HINT_T0);
      }
    }
  }
  store_tile<0>(sums, kRowBytes);
  if constexpr (kRight > 1) store_tile<1>(sums + kSumsOfTile, kRowBytes);
  if constexpr (kRight > 2) {
    store_tile<2>(sums + 2 * kSumsOfTile, kRowBytes);
    store_tile<3>(sums + 3 * kSumsOfTile, kRowBytes);
  }
  if constexpr (kLeft > 1) {
    store_tile<kRight>(sums + kRight * kSumsOfTile, kRowBytes);
    if constexpr (kRight > 1) store_tile<kRight + 1>(sums + (kRight + 1) * kSumsOfTile, kRowBytes);
  }
}

// Codes of 4 bits as bytes: `rows` tile rows of 8 inputs to two rows each of 4.
LMRUN_INLINE void widen(const std::byte* words, int64_t rows, std::byte* codes) {
  const __m512i nibbles = _mm512_set1_epi8(15);
  for (int64_t i = 0; i < rows; ++i) {
    const __m512i row = _mm512_loadu_si512(words + i * kTileBytes);
    _mm512_store_si512(codes + 2 * i * kTileBytes, _mm512_and_si512(row, nibbles));
    _mm512_store_si512(codes + (2 * i + 1) * kTileBytes,
                       _mm512_and_si512(_mm512_srli_epi16(row, 4), nibbles));
  }
}

// The most inputs of a product of tiles that a block is made of without a rest.
LMRUN_INLINE int64_t inputs_of_step(int64_t block) {
  int64_t inputs = kRowBytes;
  while (block % inputs != 0) inputs -= kU4TileInputs;
  return inputs;
}

struct CodesJob {
  const PackedMatrix* w;
  const DigitRows* x;
  int64_t rows;
  int64_t tile_bytes;
  int64_t num_blocks;
  int64_t num_groups;
  int64_t blocks_per_group;
  int64_t stretch;  // blocks
  int64_t inputs;   // of a product of tiles
  float* y;
  int64_t ldy;
};

struct Scratch {
  alignas(64) std::byte codes[kMostRight * kTileFeatures * kMostBlockInputs];
  alignas(64) int32_t sums[4 * kSumsOfTile];
  alignas(64) float y[4 * kSumsOfTile];  // of a left and a right tile: 16 floats a row
};

// Adds one block of a tile's sums to `y`, row after row.
template <int kDigits>
LMRUN_INLINE void join(const CodesJob& job, int64_t tile, int64_t block, int64_t row, int64_t count,
                       const int32_t* sums, float* y) {
  const PackedMatrix& w = *job.w;
  const int64_t group = job.blocks_per_group == 1 ? block : block / job.blocks_per_group;
  const int64_t params = (tile * job.num_groups + group) * kTileFeatures;
  const __m512 scale = w.scale32 != nullptr
                           ? _mm512_loadu_ps(w.scale32 + params)
                           : _mm512_cvtph_ps(_mm256_loadu_si256(
                                 reinterpret_cast<const __m256i*>(w.scale16 + params)));
  const __m512 zero = _mm512_cvtepi32_ps(
      _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w.zero + params))));
  const float* unit = job.x->unit + row * job.num_blocks + block;
  const float* sum = job.x->sum + row * job.num_blocks + block;
  for (int64_t r = 0; r < count; ++r) {
    const int32_t* digits = sums + r * kDigits * kTileWords;
    __m512i dots[kDigits];
    LMRUN_UNROLL
    for (int d = 0; d < kDigits; ++d) dots[d] = _mm512_load_si512(digits + d * kTileWords);
    const __m512 dot =
        _mm512_mul_ps(avx512::join_digits<kDigits>(dots), _mm512_set1_ps(unit[r * job.num_blocks]));
    const __m512 centred = _mm512_fnmadd_ps(zero, _mm512_set1_ps(sum[r * job.num_blocks]), dot);
    float* to = y + r * kTileWords;
    _mm512_store_ps(to, _mm512_fmadd_ps(scale, centred, _mm512_load_ps(to)));
  }
}

// Blocks [begin, end) of rows [row, row + count) and kRight tiles, whose codes lie at `codes`.
template <int kDigits, int kLeft, int kRight>
void run_panel(const CodesJob& job, int64_t tile, int64_t begin, int64_t end, int64_t row,
               int64_t count, const std::byte* codes, int64_t codes_apart, Ahead ahead,
               Scratch* scratch) {
  const PackedMatrix& w = *job.w;
  const int64_t rows_of[2] = {kLeft == 1 ? count : kTileRows / kDigits,
                              kLeft == 1 ? 0 : count - kTileRows / kDigits};
  const int64_t steps = job.x->block / job.inputs;
  LMRUN_UNROLL
  for (int l = 0; l < kLeft; ++l) {
    const int64_t first = row + l * (kTileRows / kDigits);
    for (int r = 0; r < kRight; ++r) {
      const int64_t n = (tile + r) * kTileFeatures;
      float* y = scratch->y + (l * kRight + r) * kSumsOfTile;
      for (int64_t i = 0; i < rows_of[l]; ++i) {
        _mm512_store_ps(y + i * kTileWords,
                        begin == 0 ? _mm512_setzero_ps()
                                   : _mm512_maskz_loadu_ps(first_lanes(w.n - n),
                                                           job.y + (first + i) * job.ldy + n));
      }
    }
  }
  for (int64_t b = begin; b < end; ++b) {
    const int8_t* const x = job.x->digits + row * kDigits * job.x->stride + b * job.x->block;
    const int8_t* const left[kMostLeft] = {x, x + kTileRows / kDigits * kDigits * job.x->stride};
    sum_tiles<kLeft, kRight>(left, job.x->stride,
                             codes + (b - begin) * job.x->block * kTileFeatures, codes_apart, steps,
                             job.inputs, ahead, scratch->sums);
    ahead.from += steps * ahead.lines * kTileBytes;
    LMRUN_UNROLL
    for (int l = 0; l < kLeft; ++l) {
      for (int r = 0; r < kRight; ++r) {
        const int64_t at = (l * kRight + r) * kSumsOfTile;
        join<kDigits>(job, tile + r, b, row + l * (kTileRows / kDigits), rows_of[l],
                      scratch->sums + at, scratch->y + at);
      }
    }
  }
  const bool has_bias = w.bias != nullptr && end == job.num_blocks;
  LMRUN_UNROLL
  for (int l = 0; l < kLeft; ++l) {
    const int64_t first = row + l * (kTileRows / kDigits);
    for (int r = 0; r < kRight; ++r) {
      const int64_t n = (tile + r) * kTileFeatures;
      const __mmask16 mask = first_lanes(w.n - n);
      const __m512 bias = has_bias ? _mm512_maskz_loadu_ps(mask, w.bias + n) : _mm512_setzero_ps();
      const float* y = scratch->y + (l * kRight + r) * kSumsOfTile;
      for (int64_t i = 0; i < rows_of[l]; ++i) {
        __m512 value = _mm512_load_ps(y + i * kTileWords);
        if (has_bias) value = _mm512_add_ps(value, bias);
        _mm512_mask_storeu_ps(job.y + (first + i) * job.ldy + n, mask, value);
      }
    }
  }
}

// All rows of kRight tiles. `next`: the tiles that follow.
template <int kDigits, int kRight>
void run_tiles(const CodesJob& job, int64_t tile, Shapes* current, Scratch* scratch) {
  constexpr int64_t kRowsOfTile = kTileRows / kDigits;
  constexpr int64_t kPanel = kRight == 4 ? kRowsOfTile : 2 * kRowsOfTile;
  const PackedMatrix& w = *job.w;
  const bool is_u4 = w.format == WeightFormat::kU4;
  const int64_t code_bytes = is_u4 ? 1 : 2;  // of two codes
  const std::byte* weight = w.weight + tile * job.tile_bytes;
  for (int64_t begin = 0; begin < job.num_blocks; begin += job.stretch) {
    const int64_t end = smaller(begin + job.stretch, job.num_blocks);
    const int64_t inputs = (end - begin) * job.x->block;
    const std::byte* words = weight + begin * job.x->block * code_bytes * (kTileFeatures / 2);
    const std::byte* codes = words;
    int64_t codes_apart = job.tile_bytes;
    if (is_u4) {
      codes_apart = inputs * kTileFeatures;
      for (int r = 0; r < kRight; ++r) {
        widen(words + r * job.tile_bytes, inputs / kU4TileInputs, scratch->codes + r * codes_apart);
      }
      codes = scratch->codes;
    }
    // While the first rows pass, the next stretch comes; after the last one, that of the next
    // tiles.
    const std::byte* following = end < job.num_blocks
                                     ? words + inputs * code_bytes * (kTileFeatures / 2)
                                     : weight + kRight * job.tile_bytes;
    Ahead ahead = {following, job.tile_bytes,
                   job.inputs * code_bytes * (kTileFeatures / 2) / kTileBytes};
    for (int64_t row = 0; row < job.rows; row += kPanel) {
      const int64_t count = smaller(job.rows - row, kPanel);
      Shapes wanted = {{smaller(count, kRowsOfTile) * kDigits, 0}, kRight, job.inputs};
      if (count <= kRowsOfTile) {
        configure<1, kRight>(wanted, current);
        run_panel<kDigits, 1, kRight>(job, tile, begin, end, row, count, codes, codes_apart, ahead,
                                      scratch);
      } else if constexpr (kRight < 4) {
        wanted.left_rows[1] = (count - kRowsOfTile) * kDigits;
        configure<2, kRight>(wanted, current);
        run_panel<kDigits, 2, kRight>(job, tile, begin, end, row, count, codes, codes_apart, ahead,
                                      scratch);
      }
      ahead.lines = 0;
    }
  }
}

template <int kDigits>
void run_codes(const CodesJob& job, int64_t tile_begin, int64_t tile_end) {
  Scratch scratch;
  Shapes current = {};
  int64_t tile = tile_begin;
  if (job.rows <= kTileRows / kDigits) {  // one left tile, so that there are four sums under way
    for (; tile + 4 <= tile_end; tile += 4) run_tiles<kDigits, 4>(job, tile, &current, &scratch);
  }
  for (; tile + 2 <= tile_end; tile += 2) run_tiles<kDigits, 2>(job, tile, &current, &scratch);
  if (tile < tile_end) run_tiles<kDigits, 1>(job, tile, &current, &scratch);
}

struct I8Job {
  const PackedMatrix* w;
  const QuantizedRows* x;
  int64_t rows;
  int64_t tile_bytes;
  int64_t whole_steps;  // products of tiles of 64 inputs that the tiles of w hold whole
  float* y;
  int64_t ldy;
};

// Scales of rows and features, and the offset of the weights, over one tile of sums.
LMRUN_INLINE void finish_i8(const I8Job& job, int64_t tile, int64_t row, int64_t count,
                            const int32_t* sums) {
  const PackedMatrix& w = *job.w;
  const int64_t n = tile * kTileFeatures;
  const __mmask16 mask = first_lanes(w.n - n);
  const __m512 scale = _mm512_loadu_ps(w.scale32 + n);
  for (int64_t r = row; r < row + count; ++r) {
    const __m512i offset = _mm512_set1_epi32(static_cast<int32_t>(
        static_cast<uint32_t>(job.x->sum[r]) * static_cast<uint32_t>(quant::kI8Offset)));
    const __m512i sum = _mm512_load_si512(sums + (r - row) * kTileWords);
    const __m512 dot = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, offset));
    __m512 y = _mm512_mul_ps(dot, _mm512_mul_ps(_mm512_set1_ps(job.x->scale[r]), scale));
    if (w.bias != nullptr) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, w.bias + n));
    _mm512_mask_storeu_ps(job.y + r * job.ldy + n, mask, y);
  }
}

// Adds the sums of one more product of tiles.
LMRUN_INLINE void add_sums(const int32_t* more, int64_t count, int32_t* sums) {
  for (int64_t i = 0; i < count; i += kTileWords) {
    _mm512_store_si512(sums + i,
                       _mm512_add_epi32(_mm512_load_si512(sums + i), _mm512_load_si512(more + i)));
  }
}

// `last`: the codes of the inputs after the whole steps, filled up with zeros; null where none are.
template <int kLeft, int kRight>
void run_i8_panel(const I8Job& job, int64_t tile, int64_t row, int64_t count, const std::byte* last,
                  int64_t lines_ahead) {
  alignas(64) int32_t sums[4 * kSumsOfTile];
  const int64_t stride = job.x->stride;
  const std::byte* weight = job.w->weight + tile * job.tile_bytes;
  const int8_t* const x = job.x->codes + row * stride;
  const int8_t* const left[kMostLeft] = {x, x + kTileRows * stride};
  sum_tiles<kLeft, kRight>(left, stride, weight, job.tile_bytes, job.whole_steps, kRowBytes,
                           {weight + kI8AheadBytes, job.tile_bytes, lines_ahead}, sums);
  const int64_t rows_of[2] = {smaller(count, kTileRows), count - kTileRows};
  if (last != nullptr) {
    alignas(64) int32_t more[4 * kSumsOfTile];
    const int64_t at = job.whole_steps * kRowBytes;
    const int8_t* const rest[kMostLeft] = {x + at, x + kTileRows * stride + at};
    sum_tiles<kLeft, kRight>(rest, stride, last, kTileRows * kRowBytes, 1, kRowBytes,
                             {weight, job.tile_bytes, 0}, more);
    for (int l = 0; l < kLeft; ++l) {
      for (int r = 0; r < kRight; ++r) {
        const int64_t first = (l * kRight + r) * kSumsOfTile;
        add_sums(more + first, rows_of[l] * kTileWords, sums + first);
      }
    }
  }
  for (int l = 0; l < kLeft; ++l) {
    for (int r = 0; r < kRight; ++r) {
      finish_i8(job, tile + r, row + l * kTileRows, rows_of[l],
                sums + (l * kRight + r) * kSumsOfTile);
    }
  }
}

// All rows of kRight tiles: their weights stay in L2 while the rows pass.
template <int kRight>
void run_i8_tiles(const I8Job& job, int64_t tile, Shapes* current) {
  constexpr int64_t kPanel = kRight == 4 ? kTileRows : 2 * kTileRows;
  alignas(64) std::byte padded[kRight * kTileRows * kRowBytes];
  const std::byte* last = nullptr;
  const int64_t whole_bytes = job.whole_steps * kTileRows * kRowBytes;
  if (whole_bytes < job.tile_bytes) {
    const int64_t rest = (job.tile_bytes - whole_bytes) / kTileBytes;
    for (int r = 0; r < kRight; ++r) {
      const std::byte* from = job.w->weight + (tile + r) * job.tile_bytes + whole_bytes;
      for (int64_t i = 0; i < kTileRows; ++i) {
        _mm512_store_si512(
            padded + (r * kTileRows + i) * kRowBytes,
            i < rest ? _mm512_loadu_si512(from + i * kTileBytes) : _mm512_setzero_si512());
      }
    }
    last = padded;
  }
  int64_t lines_ahead = kTileRows;  // while the first rows pass
  for (int64_t row = 0; row < job.rows; row += kPanel) {
    const int64_t count = smaller(job.rows - row, kPanel);
    Shapes wanted = {{smaller(count, kTileRows), 0}, kRight, kRowBytes};
    if (count <= kTileRows) {
      configure<1, kRight>(wanted, current);
      run_i8_panel<1, kRight>(job, tile, row, count, last, lines_ahead);
    } else if constexpr (kRight < 4) {
      wanted.left_rows[1] = count - kTileRows;
      configure<2, kRight>(wanted, current);
      run_i8_panel<2, kRight>(job, tile, row, count, last, lines_ahead);
    }
    lines_ahead = 0;
  }
}

}  // namespace

void gemm_codes_tiles(const PackedMatrix& w, const DigitRows& x, int64_t rows, int64_t tile_begin,
                      int64_t tile_end, float* y, int64_t ldy) {
  const int64_t blocks = w.k / x.block;
  const int64_t stretch = kStretchInputs / x.block;
  const CodesJob job = {&w,
                        &x,
                        rows,
                        w.tile_bytes(),
                        blocks,
                        w.num_groups(),
                        w.group_size / x.block,
                        stretch == 0 ? 1 : stretch,
                        inputs_of_step(x.block),
                        y,
                        ldy};
  switch (x.num_digits) {
    case 1:
      run_codes<1>(job, tile_begin, tile_end);
      break;
    case 2:
      run_codes<2>(job, tile_begin, tile_end);
      break;
    default:
      run_codes<3>(job, tile_begin, tile_end);
  }
  release_tiles();
}

void gemm_i8_tiles(const PackedMatrix& w, const QuantizedRows& x, int64_t rows, int64_t tile_begin,
                   int64_t tile_end, float* y, int64_t ldy) {
  const int64_t tile_bytes = w.tile_bytes();
  const I8Job job = {&w, &x, rows, tile_bytes, tile_bytes / (kTileRows * kRowBytes), y, ldy};
  Shapes current = {};
  int64_t tile = tile_begin;
  if (rows <= kTileRows) {
    for (; tile + 4 <= tile_end; tile += 4) run_i8_tiles<4>(job, tile, &current);
  }
  for (; tile + 2 <= tile_end; tile += 2) run_i8_tiles<2>(job, tile, &current);
  if (tile < tile_end) run_i8_tiles<1>(job, tile, &current);
  release_tiles();
}

}  // namespace lmrun::kernels::amx
