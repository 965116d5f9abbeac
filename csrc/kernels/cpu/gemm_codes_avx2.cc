// split_rows, gemm_codes and gemm_i8 on AVX2: the same integers and the same joins as on AVX-512,
// so the same bits. No std header with templates: see avx2.h.
//
// Products of 4-bit codes and digits are at most 15 * 128, of which 16 bits hold 17: `vpmaddubsw`
// adds up two, and four tile rows of 2 of those pass before sums are widened to 32 bits. Codes of
// 8 bits are widened first.
#include "kernels/cpu/avx2.h"
#include "kernels/cpu/digit_scale.h"
#include "kernels/cpu/simd_avx2.h"

namespace lmrun::kernels::avx2 {
namespace {

using quant::DigitRows;
using quant::kTileBytes;
using quant::kTileFeatures;
using quant::PackedMatrix;
using quant::QuantizedRows;
using quant::WeightFormat;

constexpr int64_t kPrefetchBytes = 8192;  // ahead

// 16 features.
struct Sums {
  __m256i low = _mm256_setzero_si256();
  __m256i high = _mm256_setzero_si256();
};

template <int kDigits>
LMRUN_INLINE __m256 join_digits(const __m256i* sums) {
  __m256 joined = _mm256_cvtepi32_ps(sums[0]);
  if constexpr (kDigits > 1) {
    joined = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[1]), _mm256_set1_ps(256.0f), joined);
  }
  if constexpr (kDigits > 2) {
    joined = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[2]), _mm256_set1_ps(65536.0f), joined);
  }
  return joined;
}

template <int kDigits>
void split_block(const float* x, int64_t inputs, int8_t* digits, int64_t stride, float* unit,
                 float* sum) {
  __m256i magnitudes = _mm256_setzero_si256();
  for (int64_t i = 0; i < inputs; i += 8) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
    magnitudes =
        _mm256_max_epi32(magnitudes, _mm256_and_si256(bits, _mm256_set1_epi32(0x7FFFFFFF)));
  }
  alignas(32) uint32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), magnitudes);
  uint32_t word = 0;
  for (const uint32_t lane : lanes) word = lane > word ? lane : word;
  if (word >= 0x7F800000u) {  // not finite, and so is what comes of it
    for (int64_t i = 0; i < inputs; ++i) {
      for (int d = 0; d < kDigits; ++d) digits[d * stride + i] = 0;
    }
    *unit = *sum = __builtin_nanf("");
    return;
  }
  const DigitScale scale = digit_scale<kDigits>(word);
  const float factor = scale.factor;
  *unit = scale.unit;
  const __m256i half = _mm256_set1_epi32(128);
  __m256i sums[kDigits];
  LMRUN_UNROLL
  for (int d = 0; d < kDigits; ++d) sums[d] = _mm256_setzero_si256();
  for (int64_t i = 0; i < inputs; i += 8) {
    __m256i number =
        _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(factor)));
    LMRUN_UNROLL
    for (int d = 0; d < kDigits; ++d) {  // the low byte is the digit; it is taken as signed
      const int64_t bytes = low_bytes(number);
      __builtin_memcpy(digits + d * stride + i, &bytes, sizeof(bytes));
      const __m256i raised = _mm256_add_epi32(number, half);
      const __m256i byte = _mm256_and_si256(raised, _mm256_set1_epi32(255));
      sums[d] = _mm256_add_epi32(sums[d], _mm256_sub_epi32(byte, half));
      number = _mm256_srai_epi32(raised, 8);
    }
  }
  __m256i totals[kDigits];
  LMRUN_UNROLL
  for (int d = 0; d < kDigits; ++d) totals[d] = _mm256_set1_epi32(sum_of(sums[d]));
  *sum = _mm256_cvtss_f32(join_digits<kDigits>(totals)) * *unit;
}

template <int kDigits>
void split(const float* x, int64_t rows, int64_t k, const DigitRows& y) {
  const int64_t blocks = k / y.block;
  for (int64_t r = 0; r < rows; ++r) {
    int8_t* digits = y.digits + r * kDigits * y.stride;
    for (int64_t b = 0; b < blocks; ++b) {
      split_block<kDigits>(x + r * k + b * y.block, y.block, digits + b * y.block, y.stride,
                           y.unit + r * blocks + b, y.sum + r * blocks + b);
    }
    for (int d = 0; d < kDigits; ++d) {
      for (int64_t i = k; i < y.stride; ++i) digits[d * y.stride + i] = 0;
    }
  }
}

// Dot products of one block of a tile with each digit of a row.
struct U4Codes {
  static constexpr int64_t kInputs = 8;
  static constexpr int64_t kRowsBetween = 4;  // tile rows between two widenings

  template <int kDigits>
  LMRUN_INLINE void add_rows(const std::byte* weight, int64_t rows, const int8_t* x, int64_t stride,
                             Sums* sums) {
    const __m256i nibbles = _mm256_set1_epi8(15);
    Sums words[kDigits];
    for (int64_t i = 0; i < rows; ++i, weight += kTileBytes, x += kInputs) {
      _mm_prefetch(reinterpret_cast<const char*>(weight + kPrefetchBytes), _MM_HINT_T0);
      const auto* at = reinterpret_cast<const __m256i*>(weight);
      const __m256i low = _mm256_loadu_si256(at);
      const __m256i high = _mm256_loadu_si256(at + 1);
      LMRUN_UNROLL
      for (int h = 0; h < 2; ++h) {
        const __m256i codes[2] = {
            _mm256_and_si256(h == 0 ? low : _mm256_srli_epi16(low, 4), nibbles),
            _mm256_and_si256(h == 0 ? high : _mm256_srli_epi16(high, 4), nibbles)};
        LMRUN_UNROLL
        for (int d = 0; d < kDigits; ++d) {
          const __m256i inputs = four_bytes(x + d * stride + 4 * h);
          words[d].low = _mm256_add_epi16(words[d].low, _mm256_maddubs_epi16(codes[0], inputs));
          words[d].high = _mm256_add_epi16(words[d].high, _mm256_maddubs_epi16(codes[1], inputs));
        }
      }
    }
    const __m256i ones = _mm256_set1_epi16(1);
    LMRUN_UNROLL
    for (int d = 0; d < kDigits; ++d) {
      sums[d].low = _mm256_add_epi32(sums[d].low, _mm256_madd_epi16(words[d].low, ones));
      sums[d].high = _mm256_add_epi32(sums[d].high, _mm256_madd_epi16(words[d].high, ones));
    }
  }
};

struct U8Codes {
  static constexpr int64_t kInputs = 4;
  static constexpr int64_t kRowsBetween = 8;

  template <int kDigits>
  LMRUN_INLINE void add_rows(const std::byte* weight, int64_t rows, const int8_t* x, int64_t stride,
                             Sums* sums) {
    for (int64_t i = 0; i < rows; ++i, weight += kTileBytes, x += kInputs) {
      _mm_prefetch(reinterpret_cast<const char*>(weight + kPrefetchBytes), _MM_HINT_T0);
      const auto* at = reinterpret_cast<const __m256i*>(weight);
      const Words low = code_words(_mm256_loadu_si256(at));
      const Words high = code_words(_mm256_loadu_si256(at + 1));
      LMRUN_UNROLL
      for (int d = 0; d < kDigits; ++d) {
        const Words inputs = input_words(x + d * stride);
        sums[d].low = add_products(sums[d].low, low, inputs);
        sums[d].high = add_products(sums[d].high, high, inputs);
      }
    }
  }
};

// Outputs of one tile and row, from two registers of 8 features.
LMRUN_INLINE void store_outputs(const PackedMatrix& w, int64_t tile, const __m256* y, float* out) {
  LMRUN_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int64_t n = tile * kTileFeatures + 8 * half;
    const __m256i mask = first_lanes(w.n - n);
    __m256 value = y[half];
    if (w.bias != nullptr) value = _mm256_add_ps(value, _mm256_maskload_ps(w.bias + n, mask));
    _mm256_maskstore_ps(out + n, mask, value);
  }
}

template <class Format, int kDigits>
void run_codes(const PackedMatrix& w, const DigitRows& x, int64_t r, int64_t tile, float* out) {
  const int64_t num_blocks = w.k / x.block;
  const int64_t blocks_per_group = w.group_size / x.block;
  const std::byte* weight = w.weight + tile * w.tile_bytes();
  const int8_t* digits = x.digits + r * kDigits * x.stride;
  __m256 y[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  for (int64_t b = 0; b < num_blocks; ++b) {
    Sums sums[kDigits];
    for (int64_t left = x.block / Format::kInputs; left > 0; left -= Format::kRowsBetween) {
      const int64_t rows = left < Format::kRowsBetween ? left : Format::kRowsBetween;
      Format::template add_rows<kDigits>(weight, rows, digits, x.stride, sums);
      weight += rows * kTileBytes;
      digits += rows * Format::kInputs;
    }
    const int64_t params =
        (tile * w.num_groups() + (blocks_per_group == 1 ? b : b / blocks_per_group)) *
        kTileFeatures;
    const __m256 unit = _mm256_set1_ps(x.unit[r * num_blocks + b]);
    const __m256 sum = _mm256_set1_ps(x.sum[r * num_blocks + b]);
    LMRUN_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int64_t at = params + 8 * half;
      const __m256 scale =
          w.scale32 != nullptr
              ? _mm256_loadu_ps(w.scale32 + at)
              : _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w.scale16 + at)));
      const __m256 zero = _mm256_cvtepi32_ps(
          _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(w.zero + at))));
      __m256i dots[kDigits];
      LMRUN_UNROLL
      for (int d = 0; d < kDigits; ++d) dots[d] = half == 0 ? sums[d].low : sums[d].high;
      const __m256 dot = _mm256_mul_ps(join_digits<kDigits>(dots), unit);
      y[half] = _mm256_fmadd_ps(scale, _mm256_fnmadd_ps(zero, sum, dot), y[half]);
    }
  }
  store_outputs(w, tile, y, out);
}

// All rows of one tile after another: its weights stay in L1 or L2 while the rows pass.
template <class Format, int kDigits>
void run_tiles(const PackedMatrix& w, const DigitRows& x, int64_t rows, int64_t tile,
               int64_t tile_end, float* y, int64_t ldy) {
  for (; tile < tile_end; ++tile) {
    for (int64_t r = 0; r < rows; ++r) run_codes<Format, kDigits>(w, x, r, tile, y + r * ldy);
  }
}

template <class Format>
void run_digits(const PackedMatrix& w, const DigitRows& x, int64_t rows, int64_t tile,
                int64_t tile_end, float* y, int64_t ldy) {
  switch (x.num_digits) {
    case 1:
      return run_tiles<Format, 1>(w, x, rows, tile, tile_end, y, ldy);
    case 2:
      return run_tiles<Format, 2>(w, x, rows, tile, tile_end, y, ldy);
    default:
      return run_tiles<Format, 3>(w, x, rows, tile, tile_end, y, ldy);
  }
}

}  // namespace

void split_rows(const float* x, int64_t rows, int64_t k, const DigitRows& y) {
  switch (y.num_digits) {
    case 1:
      return split<1>(x, rows, k, y);
    case 2:
      return split<2>(x, rows, k, y);
    default:
      return split<3>(x, rows, k, y);
  }
}

void gemm_codes(const PackedMatrix& w, const DigitRows& x, int64_t rows, int64_t tile_begin,
                int64_t tile_end, float* y, int64_t ldy) {
  if (w.format == WeightFormat::kU4) {
    run_digits<U4Codes>(w, x, rows, tile_begin, tile_end, y, ldy);
  } else {
    run_digits<U8Codes>(w, x, rows, tile_begin, tile_end, y, ldy);
  }
}

void gemm_i8(const PackedMatrix& w, const QuantizedRows& x, int64_t rows, int64_t tile_begin,
             int64_t tile_end, float* y, int64_t ldy) {
  const int64_t words = w.tile_bytes() / kTileBytes;
  for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
    for (int64_t r = 0; r < rows; ++r) {
      Sums sums;
      U8Codes::add_rows<1>(w.weight + tile * w.tile_bytes(), words, x.codes + r * x.stride, 0,
                           &sums);
      const __m256i offset = _mm256_set1_epi32(static_cast<int32_t>(
          static_cast<uint32_t>(x.sum[r]) * static_cast<uint32_t>(quant::kI8Offset)));
      const float* scale = w.scale32 + tile * kTileFeatures;
      const __m256 of_row = _mm256_set1_ps(x.scale[r]);
      const __m256 outputs[2] = {
          _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(sums.low, offset)),
                        _mm256_mul_ps(of_row, _mm256_loadu_ps(scale))),
          _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(sums.high, offset)),
                        _mm256_mul_ps(of_row, _mm256_loadu_ps(scale + 8)))};
      store_outputs(w, tile, outputs, y + r * ldy);
    }
  }
}

}  // namespace lmrun::kernels::avx2
