#include "kernels/cpu/avx512.h"

namespace lmrun::kernels::avx512 {
namespace {

constexpr OpTable table(decltype(OpTable::gemm_codes) gemm_codes,
                        decltype(OpTable::gemm_i8) gemm_i8,
                        decltype(OpTable::attention) attention) {
  return {
      Isa::kAvx512, embed,      rms_norm,       add,
      silu_mul,     rope,       gather,         gemm,
      split_rows,   gemm_codes, quantize_rows,  gemm_i8,
      kv_write,     attention,  attention_join, max_and_log_sum_exp,
  };
}

}  // namespace

const OpTable& ops(bool has_vnni) {
  static constexpr OpTable kVnni = table(gemm_codes_vnni, gemm_i8_vnni, attention_vnni);
  static constexpr OpTable kWords = table(gemm_codes_words, gemm_i8_words, attention_words);
  return has_vnni ? kVnni : kWords;
}

}  // namespace lmrun::kernels::avx512
