#include "kernels/moments.h"

#include "base/cpu_features.h"

namespace lmrun::kernels {

int64_t moment_scratch(int64_t m, int64_t n) {
  const auto panels = [](int64_t features) { return (features + kMomentPanel - 1) / kMomentPanel; };
  return (panels(m) + panels(n)) * kMomentPanel * (kMomentTokens / 2);
}

AddMoments add_moments() {
#if defined(LMRUN_X86)
  const base::CpuFeatures cpu = base::detect_cpu_features();
  if (cpu.missing_for_avx512().empty() && cpu.avx512bf16) return avx512::add_moments_bf16;
#endif
  return reference::add_moments;
}

}  // namespace lmrun::kernels
