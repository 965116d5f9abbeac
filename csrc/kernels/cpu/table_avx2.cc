#include "kernels/cpu/avx2.h"
#include "kernels/cpu/reference.h"

namespace lmrun::kernels::avx2 {

const OpTable& ops() {
  static const OpTable kOps = [] {
    OpTable ops = reference::ops();
    ops.isa = Isa::kAvx2;
    ops.rms_norm = rms_norm;
    ops.add = add;
    ops.silu_mul = silu_mul;
    ops.rope = rope;
    ops.gemm = gemm;
    ops.split_rows = split_rows;
    ops.gemm_codes = gemm_codes;
    ops.gemm_i8 = gemm_i8;
    ops.attention = attention;
    ops.attention_join = attention_join;
    return ops;
  }();
  return kOps;
}

}  // namespace lmrun::kernels::avx2
