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
    case FinishReason::kError:
      return py::str("error");
  }
  return py::none();
}

py::object scores(const Output& output) {
  if (!output.scores) return py::none();
  const std::vector<float>& logprobs = output.scores->logprobs;
  return py::array_t<float>(static_cast<py::ssize_t>(logprobs.size()), logprobs.data());
}

py::object score_top(const Output& output) {
  if (!output.scores || output.scores->detail.top == 0) return py::none();
  const engine::Scores& scores = *output.scores;
  const auto top = static_cast<py::ssize_t>(scores.detail.top);
  const auto count = static_cast<py::ssize_t>(scores.logprobs.size());
  return py::make_tuple(py::array_t<int32_t>({count, top}, scores.top_ids.data()),
                        py::array_t<float>({count, top}, scores.top_logprobs.data()));
}

// A view: `self` keeps the memory alive.
py::object score_rows(const py::object& self) {
  const auto& output = self.cast<const Output&>();
  if (!output.scores || !output.scores->rows) return py::none();
  const engine::Scores& scores = *output.scores;
  const auto rows = static_cast<py::ssize_t>(scores.detail.num_rows());
  const auto columns = static_cast<py::ssize_t>(scores.vocab_size);
  return py::array_t<float>({rows, columns}, scores.rows.get(), self);
}

py::object error(const Output& output) {
  if (output.error.empty()) return py::none();
  return py::str(output.error);
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
      .def_property_readonly("scores", &scores)
      .def_property_readonly("score_top", &score_top)
      .def_property_readonly("score_rows", &score_rows)
      .def_property_readonly("error", &error);
}

}  // namespace lmrun::bindings
