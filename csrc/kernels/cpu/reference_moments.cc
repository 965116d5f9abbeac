#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels/moments.h"

namespace lmrun::kernels::reference {
namespace {

float number(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

}  // namespace

void add_moments(const MomentArgs& args) {
  for (int64_t begin = 0; begin < args.tokens; begin += kMomentTokens) {
    const int64_t end = std::min(begin + kMomentTokens, args.tokens);
    for (int64_t i = 0; i < args.m; ++i) {
      for (int64_t j = args.upper ? i : 0; j < args.n; ++j) {
        float sum = 0;
        for (int64_t t = begin; t < end; ++t) {
          sum += number(args.left[t * args.left_stride + i]) *
                 number(args.right[t * args.right_stride + j]);
        }
        args.sums[i * args.sums_stride + j] += sum;
      }
    }
  }
}

}  // namespace lmrun::kernels::reference
