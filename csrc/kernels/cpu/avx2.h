// The AVX2 variant. What avx512.h says of its files holds for those named *_avx2.cc.
#pragma once

#include "kernels/kernels.h"

namespace lmrun::kernels::avx2 {

void attention(const AttentionArgs& args);
void attention_join(const AttentionArgs& args);

}  // namespace lmrun::kernels::avx2
