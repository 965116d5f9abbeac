#include "engine/moments.h"

#include <pybind11/numpy.h>

#include "base/check.h"
#include "bindings/module.h"

namespace py = pybind11;

namespace lmrun::bindings {
namespace {

using engine::Matrix;

// A view of a matrix whose rows lie in memory as they are.
template <class Element, class Array>
Matrix<Element> matrix(const Array& array, const char* name, Element* data) {
  const auto size = static_cast<py::ssize_t>(sizeof(Element));
  if (array.ndim() != 2 || (array.shape(1) > 1 && array.strides(1) != size) ||
      array.strides(0) % size != 0) {
    throw base::InvalidArgument(std::string("add_moments: ") + name +
                                ": expected a matrix with contiguous rows. Copy it first.");
  }
  return {data, array.shape(0), array.shape(1), array.strides(0) / size};
}

// bf16 has no type of its own in NumPy: its bits as int16.
void add_moments(const py::array_t<int16_t>& left, const py::array_t<int16_t>& right,
                 py::array_t<float>& sums, bool upper) {
  const auto bits = [](const py::array_t<int16_t>& array) {
    return reinterpret_cast<const uint16_t*>(array.data());
  };
  const auto left_view = matrix<const uint16_t>(left, "left", bits(left));
  const auto right_view = matrix<const uint16_t>(right, "right", bits(right));
  const auto sums_view = matrix<float>(sums, "sums", sums.mutable_data());
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
