// What the offline stages compute natively: no op of a model, so not in the op table.
#pragma once

#include <cstdint>

namespace lmrun::kernels {

// Tokens whose products are one chain of sums.
inline constexpr int64_t kMomentTokens = 256;
// Features that are packed side by side.
inline constexpr int64_t kMomentPanel = 32;

// add_moments: sums[i, j] += sum over t of left[t, i] * right[t, j]
//   left   [tokens, m], rows left_stride apart    bf16, as its bits
//   right  [tokens, n], rows right_stride apart   bf16
//   sums   [m, n], rows sums_stride apart         f32
//   scratch  moment_scratch(m, n) words; may hold anything
// order: per kMomentTokens tokens one chain in fp32, in order of t (the AVX-512 variant takes the
//        second of two tokens first, and subnormal products are zero there), then added to sums:
//        the same bits whatever the tile
// upper: where only i <= j is wanted (left is right, the tile lies on the diagonal); the rest is
//        left as it is or overwritten
// cost:  tokens * m * n multiply-adds; packing is 1/200 of them from m = n = 512 on
struct MomentArgs {
  const uint16_t* left;
  int64_t left_stride;
  const uint16_t* right;
  int64_t right_stride;
  int64_t tokens;
  int64_t m;
  int64_t n;
  bool upper;
  float* sums;
  int64_t sums_stride;
  uint32_t* scratch;
};

using AddMoments = void (*)(const MomentArgs& args);

int64_t moment_scratch(int64_t m, int64_t n);

// The fastest variant for this CPU. All that it has to have is asked for here.
AddMoments add_moments();

namespace reference {
void add_moments(const MomentArgs& args);
}

namespace avx512 {
// Needs AVX512-BF16.
void add_moments_bf16(const MomentArgs& args);
}  // namespace avx512

}  // namespace lmrun::kernels
