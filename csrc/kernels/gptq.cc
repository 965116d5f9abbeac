#include "kernels/gptq.h"

#include "base/cpu_features.h"

namespace lmrun::kernels {

SolveGptqBlock solve_gptq_block() {
#if defined(LMRUN_X86)
  if (base::detect_cpu_features().missing_for_avx512().empty()) return avx512::solve_gptq_block;
#endif
  return reference::solve_gptq_block;
}

}  // namespace lmrun::kernels
