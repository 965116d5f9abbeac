#include "model/rope.h"

#include <cmath>

namespace lmrun::model {

RopeTables::RopeTables(const float* inv_freq, int64_t half_dim, int64_t num_positions, float factor)
    : cos_(num_positions * half_dim), sin_(num_positions * half_dim) {
  for (int64_t position = 0; position < num_positions; ++position) {
    for (int64_t i = 0; i < half_dim; ++i) {
      const float angle = static_cast<float>(position) * inv_freq[i];
      const int64_t at = position * half_dim + i;
      cos_.data()[at] = static_cast<float>(std::cos(static_cast<double>(angle))) * factor;
      sin_.data()[at] = static_cast<float>(std::sin(static_cast<double>(angle))) * factor;
    }
  }
}

}  // namespace lmrun::model
