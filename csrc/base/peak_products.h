// How fast the cores multiply and add bytes and bfloat16.
#pragma once

#include <string>

namespace lmrun::base {

// Operations per second of that many threads together, each keeping independent chains of 512-bit
// products on registers; a multiply-add counts as two. `name`: "int8" (VNNI) or "bf16". 0 where the
// CPU has no such products. Tiles (AMX) do not count. Throws base::InvalidArgument for another
// name. The best of several passes: other work on the machine only ever slows one.
double measure_products(const std::string& name, int threads);

}  // namespace lmrun::base
