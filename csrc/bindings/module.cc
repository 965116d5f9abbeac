// lmrun._engine; lmrun/_engine.pyi describes it.
#include "bindings/module.h"

#include <build_digest.h>  // made by the build
#include <pybind11/stl.h>

#include "engine/engine.h"
#include "engine/machine.h"

namespace py = pybind11;

namespace lmrun::bindings {
namespace {

py::dict build_info() {
  py::dict info;
  info["version"] = LMRUN_VERSION;
  info["build"] = LMRUN_BUILD_DIGEST;
  info["compiler"] = engine::compiler();
  info["isas"] = engine::compiled_isas();
  return info;
}

// The last registered is asked first: InvalidArgument is an Error too.
void bind_errors() {
  py::register_exception_translator([](std::exception_ptr error) {
    try {
      if (error) std::rethrow_exception(error);
    } catch (const base::InvalidArgument& invalid) {
      py::set_error(PyExc_ValueError, invalid.what());
    } catch (const base::Error& other) {
      py::set_error(PyExc_RuntimeError, other.what());
    }
  });
}

}  // namespace
}  // namespace lmrun::bindings

PYBIND11_MODULE(_engine, module) {
  module.doc() = "The native engine of lmrun.";
  lmrun::bindings::bind_errors();
  lmrun::bindings::bind_step_output(module);
  lmrun::bindings::bind_engine(module);
  lmrun::bindings::bind_ceilings(module);
  lmrun::bindings::bind_gptq(module);
  lmrun::bindings::bind_moments(module);
  module.def("supported_isas", &lmrun::engine::supported_isas);
  module.def("check_isa", &lmrun::engine::check_isa, py::arg("name"));
  module.def("available_cpus", &lmrun::engine::available_cpus);
  module.def("gives_huge_pages", &lmrun::engine::gives_huge_pages);
  module.def("measure_read_bandwidth", &lmrun::engine::measure_read_bandwidth, py::arg("threads"),
             py::arg("bytes"), py::call_guard<py::gil_scoped_release>());
  module.def("build_info", &lmrun::bindings::build_info);
}
