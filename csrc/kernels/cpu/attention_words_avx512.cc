// Attention where the CPU lacks AVX512-VNNI. The same bits as with it.
#include "kernels/cpu/attention_avx512.h"
#include "kernels/cpu/dot_words_avx512.h"

namespace lmrun::kernels::avx512 {

void attention_words(const AttentionArgs& args) { attention_of<AttentionVectors<Words>>(args); }
void attention_join(const AttentionArgs& args) { attention_join_of<AttentionVectors<Words>>(args); }

}  // namespace lmrun::kernels::avx512
