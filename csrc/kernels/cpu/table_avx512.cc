#include "kernels/cpu/avx512.h"
#include "kernels/cpu/reference.h"

namespace lmrun::kernels::avx512 {

const OpTable& ops() { return reference::ops(); }

}  // namespace lmrun::kernels::avx512
