#include "kernels/cpu/avx512.h"

namespace lmrun::kernels::avx512 {

const OpTable& ops() {
  static constexpr OpTable kOps = {
      Isa::kAvx512,
      embed,
      rms_norm,
      add,
      silu_mul,
      rope,
      group_sums,
      gemm,
      kv_write,
      attention,
      max_and_log_sum_exp,
  };
  return kOps;
}

}  // namespace lmrun::kernels::avx512
