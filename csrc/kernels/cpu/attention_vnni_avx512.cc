// Attention where the CPU has AVX512-VNNI: one operation for 64 products of codes and digits.
#include "kernels/cpu/attention_avx512.h"
#include "kernels/cpu/dot_vnni_avx512.h"

namespace lmrun::kernels::avx512 {

void attention_vnni(const AttentionArgs& args) { attention_of<AttentionVectors<Vnni>>(args); }

}  // namespace lmrun::kernels::avx512
