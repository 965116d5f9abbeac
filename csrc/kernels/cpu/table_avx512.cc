#include "kernels/cpu/avx512.h"

namespace lmrun::kernels::avx512 {
namespace {

constexpr OpTable table(decltype(OpTable::gemm) gemm, decltype(OpTable::gemm_i8) gemm_i8) {
  return {
      Isa::kAvx512, embed, rms_norm,      add,     silu_mul, rope,      group_sums,
      gather,       gemm,  quantize_rows, gemm_i8, kv_write, attention, max_and_log_sum_exp,
  };
}

}  // namespace

const OpTable& ops(bool has_vnni) {
  static constexpr OpTable kVnni = table(gemm_vnni, gemm_i8_vnni);
  static constexpr OpTable kWords = table(gemm, gemm_i8_words);
  return has_vnni ? kVnni : kWords;
}

}  // namespace lmrun::kernels::avx512
