// gemm of the float formats on AVX2, in blocks as on AVX-512. No std header with templates: see
// avx2.h.
#include "kernels/cpu/avx2.h"
#include "kernels/cpu/simd_avx2.h"

namespace lmrun::kernels::avx2 {
namespace {

using quant::kTileBytes;
using quant::kTileFeatures;
using quant::PackedMatrix;
using quant::WeightFormat;

constexpr int64_t kFloatBlock = 64;
constexpr int64_t kPrefetchBytes = 4096;  // ahead

// Formats: a row of a tile is kInputs pairs of vectors; input(half, i) is input i of 8 features.
struct F32 {
  static constexpr int kInputs = 1;
  LMRUN_INLINE __m256 input(__m256i row, int) { return _mm256_castsi256_ps(row); }
};

struct F16 {
  static constexpr int kInputs = 2;
  LMRUN_INLINE __m256 input(__m256i row, int i) {
    return _mm256_cvtph_ps(low_words(i == 0 ? row : _mm256_srli_epi32(row, 16)));
  }
};

struct Bf16 {
  static constexpr int kInputs = 2;
  LMRUN_INLINE __m256 input(__m256i row, int i) {
    const __m256i high = _mm256_set1_epi32(static_cast<int>(0xFFFF0000u));
    return _mm256_castsi256_ps(i == 0 ? _mm256_slli_epi32(row, 16) : _mm256_and_si256(row, high));
  }
};

// One tile of rows [first, first + kRows).
template <class Format, int kRows>
void run_tile(const PackedMatrix& w, const float* x, int64_t tile, float* y, int64_t ldy) {
  constexpr int kInputs = Format::kInputs;
  const std::byte* weight = w.weight + tile * w.tile_bytes();
  __m256 sums[kRows][2];
  LMRUN_UNROLL
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_ps();
  for (int64_t begin = 0; begin < w.k; begin += kFloatBlock) {
    const int64_t end = begin + kFloatBlock < w.k ? begin + kFloatBlock : w.k;
    __m256 acc[kRows][2];
    LMRUN_UNROLL
    for (int r = 0; r < kRows; ++r) acc[r][0] = acc[r][1] = _mm256_setzero_ps();
    for (int64_t k = begin; k < end; k += kInputs, weight += kTileBytes) {
      _mm_prefetch(reinterpret_cast<const char*>(weight + kPrefetchBytes), _MM_HINT_T0);
      const auto* at = reinterpret_cast<const __m256i*>(weight);
      const __m256i halves[2] = {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
      LMRUN_UNROLL
      for (int i = 0; i < kInputs; ++i) {
        if (k + i >= end) break;  // an odd K of the 16-bit formats
        const __m256 inputs[2] = {Format::input(halves[0], i), Format::input(halves[1], i)};
        LMRUN_UNROLL
        for (int r = 0; r < kRows; ++r) {
          const __m256 value = _mm256_set1_ps(x[r * w.k + k + i]);
          acc[r][0] = _mm256_fmadd_ps(value, inputs[0], acc[r][0]);
          acc[r][1] = _mm256_fmadd_ps(value, inputs[1], acc[r][1]);
        }
      }
    }
    LMRUN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      sums[r][0] = _mm256_add_ps(sums[r][0], acc[r][0]);
      sums[r][1] = _mm256_add_ps(sums[r][1], acc[r][1]);
    }
  }
  LMRUN_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int64_t n = tile * kTileFeatures + 8 * half;
    const __m256i mask = first_lanes(w.n - n);
    LMRUN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      __m256 value = sums[r][half];
      if (w.bias != nullptr) value = _mm256_add_ps(value, _mm256_maskload_ps(w.bias + n, mask));
      _mm256_maskstore_ps(y + r * ldy + n, mask, value);
    }
  }
}

template <class Format>
void run(const PackedMatrix& w, const float* x, int64_t rows, int64_t tile, int64_t tile_end,
         float* y, int64_t ldy) {
  for (; tile < tile_end; ++tile) {
    int64_t r = 0;
    for (; r + 3 <= rows; r += 3) run_tile<Format, 3>(w, x + r * w.k, tile, y + r * ldy, ldy);
    for (; r < rows; ++r) run_tile<Format, 1>(w, x + r * w.k, tile, y + r * ldy, ldy);
  }
}

}  // namespace

void gemm(const PackedMatrix& w, const float* x, int64_t rows, int64_t tile_begin, int64_t tile_end,
          float* y, int64_t ldy) {
  switch (w.format) {
    case WeightFormat::kF32:
      return run<F32>(w, x, rows, tile_begin, tile_end, y, ldy);
    case WeightFormat::kF16:
      return run<F16>(w, x, rows, tile_begin, tile_end, y, ldy);
    case WeightFormat::kBf16:
      return run<Bf16>(w, x, rows, tile_begin, tile_end, y, ldy);
    case WeightFormat::kU4:  // gemm_codes takes them
    case WeightFormat::kU8:
    case WeightFormat::kI8:  // gemm_i8 takes it
      return;
  }
}

}  // namespace lmrun::kernels::avx2
