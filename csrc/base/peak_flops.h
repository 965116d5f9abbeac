// How fast the cores multiply and add.
#pragma once

namespace lmrun::base {

// fp32 operations per second of that many threads together, each keeping independent chains of
// fused multiply-adds on registers, with the widest vectors of the CPU; a multiply-add counts as
// two. The best of several passes: other work on the machine only ever slows one.
double measure_flops(int threads);

}  // namespace lmrun::base
