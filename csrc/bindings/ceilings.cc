#include "engine/ceilings.h"

#include <pybind11/stl.h>

#include "bindings/module.h"

namespace py = pybind11;

namespace lmrun::bindings {
namespace {

py::dict measure_gemm(const std::string& isa, const std::string& format, int64_t threads,
                      int64_t rows, int64_t n, int64_t k, int64_t group_size,
                      int64_t activation_bits, int64_t bytes, double seconds) {
  engine::GemmSpeed speed;
  {
    const py::gil_scoped_release unlocked;
    speed = engine::measure_gemm(
        {isa, format, threads, rows, n, k, group_size, activation_bits, bytes, seconds});
  }
  py::dict fields;
  fields["bytes_per_s"] = speed.bytes_per_s;
  fields["flops_per_s"] = speed.flops_per_s;
  return fields;
}

py::dict measure_attention(const std::string& isa, int64_t threads, int64_t kv_bits, int64_t rows,
                           int64_t context, int64_t num_layers, int64_t num_kv_heads, int64_t group,
                           int64_t head_dim, int64_t activation_bits, double seconds) {
  engine::AttentionSpeed speed;
  {
    const py::gil_scoped_release unlocked;
    speed = engine::measure_attention({isa, threads, kv_bits, rows, context, num_layers,
                                       num_kv_heads, group, head_dim, activation_bits, seconds});
  }
  py::dict fields;
  fields["bytes_per_s"] = speed.bytes_per_s;
  fields["flops_per_s"] = speed.flops_per_s;
  return fields;
}

}  // namespace

void bind_ceilings(py::module_& module) {
  using py::arg;
  module.def("measure_gemm", &measure_gemm, py::kw_only(), arg("isa"), arg("format"),
             arg("threads"), arg("rows"), arg("n"), arg("k"), arg("group_size"),
             arg("activation_bits") = 32, arg("bytes"), arg("seconds"));
  module.def("measure_attention", &measure_attention, py::kw_only(), arg("isa"), arg("threads"),
             arg("kv_bits"), arg("rows"), arg("context"), arg("num_layers"), arg("num_kv_heads"),
             arg("group"), arg("head_dim"), arg("activation_bits") = 32, arg("seconds"));
  module.def("measure_flops", &engine::measure_flops, arg("threads"),
             py::call_guard<py::gil_scoped_release>());
  module.def("measure_products", &engine::measure_products, arg("name"), arg("threads"),
             py::call_guard<py::gil_scoped_release>());
}

}  // namespace lmrun::bindings
