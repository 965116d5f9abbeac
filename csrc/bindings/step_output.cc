#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "bindings/module.h"
#include "engine/request.h"

namespace py = pybind11;

namespace lmrun::bindings {
namespace {

using engine::FinishReason;
using engine::Output;

py::object finish_reason(const Output& output) {
  if (!output.finish_reason) return py::none();
  switch (*output.finish_reason) {
    case FinishReason::kStop:
      return py::str("stop");
    case FinishReason::kLength:
      return py::str("length");
    case FinishReason::kAbort:
      return py::str("abort");
  }
  return py::none();
}

py::object scores(const Output& output) {
  if (!output.scores) return py::none();
  return py::array_t<float>(static_cast<py::ssize_t>(output.scores->size()), output.scores->data());
}

}  // namespace

void bind_step_output(py::module_& module) {
  py::class_<Output>(module, "StepOutput")
      .def_readonly("id", &Output::id)
      .def_readonly("token_ids", &Output::token_ids)
      .def_readonly("logprobs", &Output::logprobs)
      .def_readonly("top_logprobs", &Output::top_logprobs)
      .def_property_readonly("finish_reason", &finish_reason)
      .def_readonly("num_cached_tokens", &Output::num_cached_tokens)
      .def_property_readonly("scores", &scores);
}

}  // namespace lmrun::bindings
