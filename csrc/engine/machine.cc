#include "engine/machine.h"

#include "base/bandwidth.h"
#include "base/cpus.h"
#include "base/huge_pages.h"
#include "kernels/kernels.h"

namespace lmrun::engine {

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const kernels::Isa isa : kernels::supported_isas()) names.push_back(kernels::isa_name(isa));
  return names;
}

void check_isa(const std::string& name) { kernels::parse_isa(name); }

std::string compiled_isas() {
#if defined(LMRUN_X86)
  return "amx, avx512, generic";
#else
  return "generic";
#endif
}

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "gcc " __VERSION__;
#else
  return "unknown";
#endif
}

int available_cpus() { return base::available_cpus(); }

bool gives_huge_pages() { return base::gives_huge_pages(); }

double measure_read_bandwidth(int threads, size_t bytes) {
  return base::measure_read_bandwidth(threads, bytes);
}

}  // namespace lmrun::engine
