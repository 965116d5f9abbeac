// Rotary position embeddings: the tables (Su et al. 2021).
#pragma once

#include <cstdint>

#include "tensor/float_buffer.h"

namespace lmrun::model {

// cos and sin [num_positions, half_dim], computed as transformers does: the angle is
// float32(position) · inv_freq in float32, and its cosine and sine, rounded to float32, are
// multiplied by `factor`.
class RopeTables {
 public:
  RopeTables(const float* inv_freq, int64_t half_dim, int64_t num_positions, float factor);

  const float* cos() const { return cos_.data(); }
  const float* sin() const { return sin_.data(); }

 private:
  tensor::FloatBuffer cos_;
  tensor::FloatBuffer sin_;
};

}  // namespace lmrun::model
