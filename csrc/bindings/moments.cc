#include "engine/moments.h"

#include <pybind11/numpy.h>

#include "bindings/module.h"

namespace py = pybind11;

namespace lmrun::bindings {
namespace {

using engine::Matrix;

template <class Element>
Matrix<Element> matrix(const py::array& array, Element* data) {
  const auto stride = [&array](int axis) {
    return array.ndim() > axis ? array.strides(axis) / static_cast<int64_t>(sizeof(Element)) : 1;
  };
  const auto size = [&array](int axis) { return array.ndim() > axis ? array.shape(axis) : 1; };
  return {data, size(0), size(1), stride(0), stride(1)};
}

// bf16 has no type of its own in NumPy: its bits as int16.
void add_moments(const py::array_t<int16_t>& left, const py::array_t<int16_t>& right,
                 py::array_t<float>& sums, bool upper) {
  const auto bits = [](const py::array_t<int16_t>& array) {
    return reinterpret_cast<const uint16_t*>(array.data());
  };
  const auto left_view = matrix<const uint16_t>(left, bits(left));
  const auto right_view = matrix<const uint16_t>(right, bits(right));
  const auto sums_view = matrix<float>(sums, sums.mutable_data());
  const py::gil_scoped_release unlocked;
  engine::add_moments(left_view, right_view, sums_view, upper);
}

}  // namespace

void bind_moments(py::module_& module) {
  using py::arg;
  module.def("add_moments", &add_moments, arg("left").noconvert(), arg("right").noconvert(),
             arg("sums").noconvert(), py::kw_only(), arg("upper"));
}

}  // namespace lmrun::bindings
