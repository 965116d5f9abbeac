// A block of GPTQ's solve (lmrun/quant/gptq.py): no op of a model, so not in the op table.
#pragma once

#include <cstdint>

namespace lmrun::kernels {

inline constexpr int64_t kGptqBlock = 128;  // features of a block at most

// solve_gptq_block: for the features i of a block from the last to the first, for each row n, with
// g = group[i]:
//   target = wanted[i, n] - sum over j > i of change[j, n] * feedback[j, i]    (j ascending)
//   value  = clamp(round_half_even(target / scale[g, n]), -zero[g, n], top - zero[g, n])
//   change[i, n] = value * scale[g, n] - weight[i, n];  codes[i, n] = value + zero[g, n]
//   error[n] += (value * scale[g, n] - target)^2 * cost[i]
//   products[g, n] += value * target * cost[i];  squares[g, n] += value^2 * cost[i]
//   wanted[i, n] = target
// Arrays [.., rows] are contiguous f32 (codes u8); feedback [features, features], of any strides,
// is read below the diagonal.
// Rows do not depend on each other; the quotient is a product with the reciprocal of the scale.
// needs: features <= kGptqBlock
// cost:  features^2 / 2 multiply-adds a row
struct GptqBlockArgs {
  int64_t features;
  int64_t rows;
  const float* feedback;
  int64_t feedback_row;     // elements from a row to the next
  int64_t feedback_column;  // and from a column to the next
  const float* cost;        // [features]
  const int32_t* group;     // [features]
  const float* scale;       // [groups, rows]
  const float* zero;        // [groups, rows], integers
  float top;                // the largest code
  const float* weight;      // [features, rows]
  float* wanted;            // [features, rows]
  float* change;            // [features, rows], overwritten
  uint8_t* codes;           // [features, rows], overwritten
  float* error;             // [rows]
  float* products;          // [groups, rows]
  float* squares;           // [groups, rows]
};

using SolveGptqBlock = void (*)(const GptqBlockArgs& args);

// The fastest variant for this CPU.
SolveGptqBlock solve_gptq_block();

namespace reference {
void solve_gptq_block(const GptqBlockArgs& args);
}

namespace avx512 {
void solve_gptq_block(const GptqBlockArgs& args);
}

}  // namespace lmrun::kernels
