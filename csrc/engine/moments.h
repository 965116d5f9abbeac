// Second moments of a layer's inputs, for the quantizers (lmrun/stages/collectors.py).
#pragma once

#include <cstdint>

namespace lmrun::engine {

template <class Element>
struct Matrix {
  Element* data;
  int64_t rows;
  int64_t columns;
  int64_t row_stride;     // elements from a row to the next
  int64_t column_stride;  // and from a column to the next: 1
};

// sums [m, n] += leftᵀ right of tokens by features in bf16, added up in fp32 on the calling thread;
// where `upper`, only what lies on and above the diagonal counts. Throws base::InvalidArgument
// where the shapes do not fit each other, or rows are not contiguous.
void add_moments(const Matrix<const uint16_t>& left, const Matrix<const uint16_t>& right,
                 const Matrix<float>& sums, bool upper);

}  // namespace lmrun::engine
