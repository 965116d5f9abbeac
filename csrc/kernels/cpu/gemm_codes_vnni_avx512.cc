// gemm of codes in groups where the CPU has AVX512-VNNI: products of integers instead of floats.
//
// The inputs of a block become fixed-point numbers of 24 bits, a power of two below the block's
// largest magnitude, and these three digits of 8 bits each: x = (65536 d2 + 256 d1 + d0) * scale.
// One VNNI operation multiplies 64 codes with a digit of their inputs, so three take the place of
// the four FMAs and four conversions that 64 codes need as floats. Sums of integers are exact;
// what is lost is at most half of 2^-22 of the block's largest input, once an input, where a chain
// of FMAs rounds every sum. Of each (row, feature) the result depends on K and G alone: the sums of
// a block are exact, and blocks follow each other in order. No std header with templates: see
// avx512.h.
#include "kernels/cpu/avx512.h"
#include "kernels/cpu/simd_avx512.h"

namespace lmrun::kernels::avx512 {
namespace {

using quant::kMostBlockInputs;
using quant::kTileBytes;
using quant::kTileFeatures;
using quant::PackedMatrix;
using quant::WeightFormat;

constexpr int kDigits = 3;
constexpr int32_t kLargest = (127 << 16) + (127 << 8) + 127;  // that three digits can say
constexpr int64_t kRowsTogether = 16;                         // that share a pass over the weights
constexpr int64_t kPrefetchBytes = 1024;                      // ahead in each tile
// Inputs that are split at a time, of all rows together: all of K where rows are few, so that tiles
// are read from end to end; 1024 of 16 rows.
constexpr int64_t kSplitInputs = kRowsTogether * kMostBlockInputs;

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
  int64_t tile_bytes;
  int64_t block;  // inputs of a block
  int64_t num_blocks;
  int64_t num_groups;
  int64_t blocks_per_group;
  const float* sums;  // [rows, num_blocks]
  float* y;
  int64_t ldy;
};

// Inputs of some rows of a stretch of blocks. Digit d of row r begins at (r * kDigits + d) *
// stride; the scale of its block b at r * blocks + b.
struct Digits {
  int64_t stride;  // no multiple of 4 KiB, so that rows do not share the ways of one L1 set
  int64_t blocks;
  // A row's stretch is rounded up to whole cache lines, and to one more.
  int8_t digits[kDigits * (kSplitInputs + kRowsTogether * 2 * kTileBytes)];
  float scale[kSplitInputs / 8];
};

// The inputs of one block; returns their scale.
float split_block(const float* x, int64_t inputs, int8_t* digits, int64_t stride) {
  __m512i largest = _mm512_setzero_si512();
  const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
  for (int64_t i = 0; i < inputs; i += 16) {
    largest = _mm512_max_epu32(
        largest,
        _mm512_and_si512(_mm512_maskz_loadu_epi32(first_lanes(inputs - i), x + i), magnitude));
  }
  const uint32_t bits = _mm512_reduce_max_epu32(largest);
  if (bits >= 0x7F800000u) {  // not finite, and so is what comes of it
    for (int64_t i = 0; i < inputs; ++i) {
      for (int d = 0; d < kDigits; ++d) digits[d * stride + i] = 0;
    }
    return __builtin_nanf("");
  }
  int32_t exponent = static_cast<int32_t>(bits >> 23) - 127;
  if (exponent < -100) exponent = -100;  // smaller ones lose digits below 2^-122
  // 2^n for n of a normal number.
  const auto power = [](int32_t n) {
    return _mm512_castsi512_ps(_mm512_set1_epi32((127 + n) << 23));
  };
  const float most = _mm512_cvtss_f32(_mm512_mul_ps(
      _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int32_t>(bits))), power(22 - exponent)));
  if (most > static_cast<float>(kLargest)) ++exponent;
  const __m512 factor = power(22 - exponent);
  const __m512i half = _mm512_set1_epi32(128);
  for (int64_t i = 0; i < inputs; i += 16) {
    const __mmask16 mask = first_lanes(inputs - i);
    __m512i value = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), factor));
    LMRUN_UNROLL
    for (int d = 0; d < kDigits; ++d) {  // the low byte is the digit; it is taken as signed
      _mm512_mask_cvtepi32_storeu_epi8(digits + d * stride + i, mask, value);
      value = _mm512_srai_epi32(_mm512_add_epi32(value, half), 8);
    }
  }
  return _mm512_cvtss_f32(power(exponent - 22));
}

// Blocks [begin, end) of tiles [tile, tile + kTiles) for rows [row, row + kRows) of those split;
// `first` is the call's row of the first one split.
template <class Format, int kRows, int kTiles>
void run_codes(const CodesJob& job, const Digits& split, int64_t first, int64_t row, int64_t tile,
               int64_t begin, int64_t end) {
  const PackedMatrix& w = *job.w;
  const std::byte* weight =
      w.weight + tile * job.tile_bytes + begin * job.block / Format::kInputs * kTileBytes;
  const int64_t stride = split.stride;
  const int8_t* x = split.digits + row * kDigits * stride;
  // Where a tile's stretch ends the next tiles' begins, this far on.
  const int64_t skip =
      kTiles * job.tile_bytes - (end - begin) * job.block / Format::kInputs * kTileBytes;
  __m512 y[kRows][kTiles];
  LMRUN_UNROLL
  for (int r = 0; r < kRows; ++r) {
    LMRUN_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      y[r][t] = _mm512_setzero_ps();
      if (begin != 0) {
        const int64_t n = (tile + t) * kTileFeatures;
        y[r][t] =
            _mm512_maskz_loadu_ps(first_lanes(w.n - n), job.y + (first + row + r) * job.ldy + n);
      }
    }
  }
  for (int64_t b = begin; b < end; ++b) {
    __m512i acc[kRows][kTiles][kDigits];
    LMRUN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      LMRUN_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        LMRUN_UNROLL
        for (int d = 0; d < kDigits; ++d) acc[r][t][d] = _mm512_setzero_si512();
      }
    }
    const int64_t left = (end - b) * job.block / Format::kInputs * kTileBytes;
    const int64_t ahead = kPrefetchBytes + (kPrefetchBytes >= left ? skip : 0);
    for (int64_t k = 0; k < job.block; k += Format::kInputs) {
      __m512i codes[kTiles][Format::kHalves];
      LMRUN_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        const std::byte* words = weight + t * job.tile_bytes;
        _mm_prefetch(reinterpret_cast<const char*>(words + ahead), _MM_HINT_T0);
        const __m512i loaded = _mm512_loadu_si512(words);
        LMRUN_UNROLL
        for (int h = 0; h < Format::kHalves; ++h) codes[t][h] = Format::codes(loaded, h);
      }
      LMRUN_UNROLL
      for (int r = 0; r < kRows; ++r) {
        LMRUN_UNROLL
        for (int d = 0; d < kDigits; ++d) {
          LMRUN_UNROLL
          for (int h = 0; h < Format::kHalves; ++h) {
            int32_t four = 0;
            __builtin_memcpy(&four, x + (r * kDigits + d) * stride + 4 * h, sizeof(four));
            const __m512i inputs = _mm512_set1_epi32(four);
            LMRUN_UNROLL
            for (int t = 0; t < kTiles; ++t) {
              acc[r][t][d] = _mm512_dpbusd_epi32(acc[r][t][d], codes[t][h], inputs);
            }
          }
        }
      }
      x += Format::kInputs;
      weight += kTileBytes;
    }
    const int64_t group = job.blocks_per_group == 1 ? b : b / job.blocks_per_group;
    LMRUN_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      const int64_t params = ((tile + t) * job.num_groups + group) * kTileFeatures;
      const __m512 scale = w.scale32 != nullptr
                               ? _mm512_loadu_ps(w.scale32 + params)
                               : _mm512_cvtph_ps(_mm256_loadu_si256(
                                     reinterpret_cast<const __m256i*>(w.scale16 + params)));
      const __m512 zero = _mm512_cvtepi32_ps(
          _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w.zero + params))));
      LMRUN_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const __m512 sum = _mm512_set1_ps(job.sums[(first + row + r) * job.num_blocks + b]);
        const __m512 unit = _mm512_set1_ps(split.scale[(row + r) * split.blocks + b - begin]);
        const __m512 low = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r][t][1]), _mm512_set1_ps(256.0f),
                                           _mm512_cvtepi32_ps(acc[r][t][0]));
        const __m512 dot =
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r][t][2]), _mm512_set1_ps(65536.0f), low);
        // The unit is a power of two: its product rounds nothing.
        const __m512 centred = _mm512_fnmadd_ps(zero, sum, _mm512_mul_ps(dot, unit));
        y[r][t] = _mm512_fmadd_ps(scale, centred, y[r][t]);
      }
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
      if (has_bias) y[r][t] = _mm512_add_ps(y[r][t], bias);
      _mm512_mask_storeu_ps(job.y + (first + row + r) * job.ldy + n, mask, y[r][t]);
    }
  }
}

// All rows that were split, for some tiles: their weights stay in L1 or L2 while the rows pass.
template <class Format, int kTiles>
void run_codes_rows(const CodesJob& job, const Digits& split, int64_t first, int64_t count,
                    int64_t tile, int64_t begin, int64_t end) {
  int64_t row = 0;
  for (; row + 2 <= count; row += 2) {
    run_codes<Format, 2, kTiles>(job, split, first, row, tile, begin, end);
  }
  if (row < count) run_codes<Format, 1, kTiles>(job, split, first, row, tile, begin, end);
}

template <class Format>
void run_codes_all(const CodesJob& job, const float* x, int64_t rows, int64_t tile_begin,
                   int64_t tile_end) {
  alignas(64) Digits split;
  const int64_t passes = (rows + kRowsTogether - 1) / kRowsTogether;
  for (int64_t pass = 0; pass < passes; ++pass) {  // as even as possible
    const int64_t first = pass * rows / passes;
    const int64_t count = (pass + 1) * rows / passes - first;
    split.blocks = smaller(kSplitInputs / count / job.block, job.num_blocks);  // at least one
    // Whole cache lines, an odd number of them.
    split.stride = ((split.blocks * job.block + kTileBytes - 1) / kTileBytes | 1) * kTileBytes;
    for (int64_t begin = 0; begin < job.num_blocks; begin += split.blocks) {
      const int64_t end = smaller(begin + split.blocks, job.num_blocks);
      for (int64_t r = 0; r < count; ++r) {
        for (int64_t b = begin; b < end; ++b) {
          split.scale[r * split.blocks + b - begin] = split_block(
              x + (first + r) * job.w->k + b * job.block, job.block,
              split.digits + r * kDigits * split.stride + (b - begin) * job.block, split.stride);
        }
      }
      int64_t tile = tile_begin;
      for (; tile + 2 <= tile_end; tile += 2) {
        run_codes_rows<Format, 2>(job, split, first, count, tile, begin, end);
      }
      if (tile < tile_end) run_codes_rows<Format, 1>(job, split, first, count, tile, begin, end);
    }
  }
}

}  // namespace

void gemm_vnni(const PackedMatrix& w, const float* x, const float* sums, int64_t rows,
               int64_t tile_begin, int64_t tile_end, float* y, int64_t ldy) {
  if (!w.has_groups()) return gemm(w, x, sums, rows, tile_begin, tile_end, y, ldy);
  const int64_t block = w.block_inputs();
  const CodesJob job = {
      &w, w.tile_bytes(), block, w.k / block, w.num_groups(), w.group_size / block, sums, y, ldy};
  if (w.format == WeightFormat::kU4) {
    run_codes_all<U4Codes>(job, x, rows, tile_begin, tile_end);
  } else {
    run_codes_all<U8Codes>(job, x, rows, tile_begin, tile_end);
  }
}

}  // namespace lmrun::kernels::avx512
