// The classes of the Python module, one file each.
#pragma once

#include <pybind11/pybind11.h>

namespace lmrun::bindings {

void bind_step_output(pybind11::module_& module);
void bind_engine(pybind11::module_& module);
void bind_ceilings(pybind11::module_& module);
void bind_gptq(pybind11::module_& module);
void bind_moments(pybind11::module_& module);

}  // namespace lmrun::bindings
