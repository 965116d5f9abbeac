#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/gptq.h"

namespace lmrun::kernels::reference {

void solve_gptq_block(const GptqBlockArgs& args) {
  const int64_t rows = args.rows;
  for (int64_t n = 0; n < rows; ++n) {
    for (int64_t i = args.features - 1; i >= 0; --i) {
      const int64_t place = i * rows + n;
      const int64_t group = args.group[i] * rows + n;
      float target = args.wanted[place];
      for (int64_t j = i + 1; j < args.features; ++j) {
        target -= args.change[j * rows + n] *
                  args.feedback[j * args.feedback_row + i * args.feedback_column];
      }
      const float scale = args.scale[group];
      const float zero = args.zero[group];
      const float value =
          std::clamp(std::nearbyint(target * (1.0f / scale)), -zero, args.top - zero);
      const float rounded = value * scale;
      const float wrong = rounded - target;
      args.wanted[place] = target;
      args.change[place] = rounded - args.weight[place];
      args.codes[place] = static_cast<uint8_t>(value + zero);
      args.error[n] += wrong * wrong * args.cost[i];
      args.products[group] += value * target * args.cost[i];
      args.squares[group] += value * value * args.cost[i];
    }
  }
}

}  // namespace lmrun::kernels::reference
