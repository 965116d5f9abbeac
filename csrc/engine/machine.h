// What the engine finds of the machine and of its own build, for those outside csrc.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace lmrun::engine {

// Names of the ISAs compiled in and supported by this CPU, best first.
std::vector<std::string> supported_isas();

// Throws base::Error where `backend.isa` of that name cannot be had here, saying what is missing.
void check_isa(const std::string& name);

// Names of the ISAs compiled in, best first, separated by commas.
std::string compiled_isas();

// Compiler and its version.
std::string compiler();

// Cores this process may use: affinity mask and cgroup quota, whichever is less.
int available_cpus();

// Whether memory that asks for huge pages gets them; tries it.
bool gives_huge_pages();

// Bytes per second at which threads together read memory; the ceiling of a decode step.
double measure_read_bandwidth(int threads, size_t bytes);

}  // namespace lmrun::engine
