#include "engine/moments.h"

#include <memory>

#include "base/check.h"
#include "base/concat.h"
#include "kernels/moments.h"

namespace lmrun::engine {
namespace {

template <class Element>
void expect_contiguous_rows(const char* name, const Matrix<Element>& matrix) {
  if (matrix.columns <= 1 || matrix.column_stride == 1) return;
  throw base::InvalidArgument(base::concat("add_moments: ", name,
                                           ": expected contiguous rows, got elements ",
                                           matrix.column_stride, " apart. Copy it first."));
}

}  // namespace

void add_moments(const Matrix<const uint16_t>& left, const Matrix<const uint16_t>& right,
                 const Matrix<float>& sums, bool upper) {
  if (left.rows != right.rows || left.columns != sums.rows || right.columns != sums.columns) {
    throw base::InvalidArgument(
        base::concat("add_moments: expected sums [", left.columns, ", ", right.columns, "] of ",
                     left.rows, " tokens each, got [", sums.rows, ", ", sums.columns, "] of ",
                     left.rows, " and ", right.rows, ". Give matrices that fit each other."));
  }
  expect_contiguous_rows("left", left);
  expect_contiguous_rows("right", right);
  expect_contiguous_rows("sums", sums);
  const auto scratch = std::make_unique_for_overwrite<uint32_t[]>(
      static_cast<size_t>(kernels::moment_scratch(left.columns, right.columns)));
  static const kernels::AddMoments add = kernels::add_moments();
  add({left.data, left.row_stride, right.data, right.row_stride, left.rows, left.columns,
       right.columns, upper, sums.data, sums.row_stride, scratch.get()});
}

}  // namespace lmrun::engine
