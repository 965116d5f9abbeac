// A block of GPTQ's solve, for the quantizers (lmrun/quant/gptq.py).
#pragma once

#include <cstdint>

#include "kernels/gptq.h"

namespace lmrun::engine {

struct Shape {
  int64_t rows;
  int64_t columns;  // 1 of a vector
};

struct GptqShapes {
  Shape feedback, cost, group, scale, zero, weight, wanted, change, codes, error, products, squares;
};

// `kernels::solve_gptq_block` on the calling thread. Throws base::InvalidArgument where the shapes
// do not fit each other, or a group is none of the scales'.
void solve_gptq_block(const GptqShapes& shapes, const kernels::GptqBlockArgs& args);

}  // namespace lmrun::engine
