#include "engine/gptq.h"

#include <pybind11/numpy.h>

#include "bindings/module.h"

namespace py = pybind11;

namespace lmrun::bindings {
namespace {

using Floats = py::array_t<float, py::array::c_style>;
using Indices = py::array_t<int32_t, py::array::c_style>;
using Codes = py::array_t<uint8_t, py::array::c_style>;

void solve_gptq_block(const py::array_t<float>& feedback, const Floats& cost, const Indices& group,
                      const Floats& scale, const Floats& zero, float top, const Floats& weight,
                      Floats& wanted, Floats& change, Codes& codes, Floats& error, Floats& products,
                      Floats& squares) {
  const auto shape = [](const py::array& array) {
    return engine::Shape{array.ndim() > 0 ? array.shape(0) : 0,
                         array.ndim() > 1 ? array.shape(1) : 1};
  };
  const auto stride = [&feedback](int axis) {
    return feedback.ndim() == 2 ? feedback.strides(axis) / static_cast<int64_t>(sizeof(float)) : 0;
  };
  const engine::GptqShapes shapes = {
      shape(feedback), shape(cost),   shape(group), shape(scale), shape(zero),     shape(weight),
      shape(wanted),   shape(change), shape(codes), shape(error), shape(products), shape(squares)};
  const kernels::GptqBlockArgs args = {shape(weight).rows,
                                       shape(weight).columns,
                                       feedback.data(),
                                       stride(0),
                                       stride(1),
                                       cost.data(),
                                       group.data(),
                                       scale.data(),
                                       zero.data(),
                                       top,
                                       weight.data(),
                                       wanted.mutable_data(),
                                       change.mutable_data(),
                                       codes.mutable_data(),
                                       error.mutable_data(),
                                       products.mutable_data(),
                                       squares.mutable_data()};
  const py::gil_scoped_release unlocked;
  engine::solve_gptq_block(shapes, args);
}

}  // namespace

void bind_gptq(py::module_& module) {
  using py::arg;
  module.def("solve_gptq_block", &solve_gptq_block, py::kw_only(), arg("feedback").noconvert(),
             arg("cost").noconvert(), arg("group").noconvert(), arg("scale").noconvert(),
             arg("zero").noconvert(), arg("top"), arg("weight").noconvert(),
             arg("wanted").noconvert(), arg("change").noconvert(), arg("codes").noconvert(),
             arg("error").noconvert(), arg("products").noconvert(), arg("squares").noconvert());
}

}  // namespace lmrun::bindings
