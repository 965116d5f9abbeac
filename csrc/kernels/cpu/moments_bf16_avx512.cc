// Products of bf16 in fp32, two tokens an instruction.
//
// Tokens are taken in pairs: a word is feature k of tokens 2p and 2p + 1. A panel is 32 features,
// [pair][32] words; so the same panel is read by vectors (right) and by broadcasts (left), and 128
// pairs of it are half an L1 cache. 8 features by 32 are 16 chains, more than the instruction's
// latency. No std header with templates: see avx512.h.
#include "kernels/cpu/simd_avx512.h"
#include "kernels/moments.h"

namespace lmrun::kernels::avx512 {
namespace {

constexpr int64_t kPairs = kMomentTokens / 2;
constexpr int kRows = 8;
constexpr int64_t kPanelWords = kMomentPanel * kPairs;

// Word k of the first or the second half of a panel: element k of x, then element k of y.
LMRUN_INLINE __m512i pair_order(int half) {
  alignas(64) uint16_t order[32];
  for (int i = 0; i < 16; ++i) {
    order[2 * i] = static_cast<uint16_t>(16 * half + i);
    order[2 * i + 1] = static_cast<uint16_t>(32 + 16 * half + i);
  }
  return _mm512_load_si512(order);
}

// Panels of x [tokens, features]; features past the last, and a token past it, are zero.
void pack(const uint16_t* x, int64_t stride, int64_t tokens, int64_t features, uint32_t* panels) {
  const __m512i low = pair_order(0);
  const __m512i high = pair_order(1);
  for (int64_t first = 0; first < features; first += kMomentPanel, panels += kPanelWords) {
    const int64_t count = smaller(kMomentPanel, features - first);
    const __mmask32 mask = count == 32 ? 0xFFFFFFFFu : (1u << count) - 1u;
    uint32_t* out = panels;
    for (int64_t t = 0; t < tokens; t += 2, out += kMomentPanel) {
      const uint16_t* row = x + t * stride + first;
      const __m512i one = _mm512_maskz_loadu_epi16(mask, row);
      const __m512i two =
          t + 1 < tokens ? _mm512_maskz_loadu_epi16(mask, row + stride) : _mm512_setzero_si512();
      _mm512_storeu_si512(out, _mm512_permutex2var_epi16(one, low, two));
      _mm512_storeu_si512(out + 16, _mm512_permutex2var_epi16(one, high, two));
    }
  }
}

LMRUN_INLINE __m512bh as_bf16(__m512i words) { return reinterpret_cast<__m512bh>(words); }

// sums[i, j] += left · right for kRows by 32 features; `left` begins at its first feature.
void add_block(const uint32_t* left, const uint32_t* right, int64_t pairs, int64_t rows,
               int64_t columns, float* sums, int64_t stride) {
  __m512 acc[kRows][2];
  LMRUN_UNROLL
  for (int r = 0; r < kRows; ++r) {
    acc[r][0] = acc[r][1] = _mm512_setzero_ps();
    // Sums come from far away, 16 lines in 8 pages: ask for them before they are needed.
    _mm_prefetch(reinterpret_cast<const char*>(sums + r * stride), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(sums + r * stride + 16), _MM_HINT_T0);
  }
  for (int64_t p = 0; p < pairs; ++p, left += kMomentPanel, right += kMomentPanel) {
    const __m512bh first = as_bf16(_mm512_loadu_si512(right));
    const __m512bh second = as_bf16(_mm512_loadu_si512(right + 16));
    LMRUN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const __m512bh value = as_bf16(_mm512_set1_epi32(static_cast<int32_t>(left[r])));
      acc[r][0] = _mm512_dpbf16_ps(acc[r][0], value, first);
      acc[r][1] = _mm512_dpbf16_ps(acc[r][1], value, second);
    }
  }
  const __mmask16 masks[2] = {first_lanes(columns),
                              columns > 16 ? first_lanes(columns - 16) : __mmask16{0}};
  LMRUN_UNROLL
  for (int r = 0; r < kRows; ++r) {
    if (r >= rows) break;
    LMRUN_UNROLL
    for (int half = 0; half < 2; ++half) {
      float* place = sums + r * stride + 16 * half;
      const __m512 before = _mm512_maskz_loadu_ps(masks[half], place);
      _mm512_mask_storeu_ps(place, masks[half], _mm512_add_ps(before, acc[r][half]));
    }
  }
}

}  // namespace

void add_moments_bf16(const MomentArgs& args) {
  uint32_t* left = args.scratch;
  uint32_t* right = left + (args.m + kMomentPanel - 1) / kMomentPanel * kPanelWords;
  for (int64_t begin = 0; begin < args.tokens; begin += kMomentTokens) {
    const int64_t tokens = smaller(kMomentTokens, args.tokens - begin);
    const int64_t pairs = (tokens + 1) / 2;
    pack(args.left + begin * args.left_stride, args.left_stride, tokens, args.m, left);
    pack(args.right + begin * args.right_stride, args.right_stride, tokens, args.n, right);
    for (int64_t j = 0; j < args.n; j += kMomentPanel) {
      const uint32_t* columns = right + j * kPairs;
      const int64_t end = args.upper ? smaller(args.m, j + kMomentPanel) : args.m;
      for (int64_t i = 0; i < end; i += kRows) {
        const uint32_t* rows = left + i / kMomentPanel * kPanelWords + i % kMomentPanel;
        add_block(rows, columns, pairs, smaller(kRows, args.m - i),
                  smaller(kMomentPanel, args.n - j), args.sums + i * args.sums_stride + j,
                  args.sums_stride);
      }
    }
  }
}

}  // namespace lmrun::kernels::avx512
