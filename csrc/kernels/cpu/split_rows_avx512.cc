// No std header with templates: see avx512.h.
#include "kernels/cpu/avx512.h"
#include "kernels/cpu/digits_avx512.h"

namespace lmrun::kernels::avx512 {
namespace {

template <int kDigits>
void split(const float* x, int64_t rows, int64_t k, const quant::DigitRows& y) {
  const int64_t blocks = k / y.block;
  for (int64_t r = 0; r < rows; ++r) {
    int8_t* digits = y.digits + r * kDigits * y.stride;
    for (int64_t b = 0; b < blocks; ++b) {
      const float* in = x + r * k + b * y.block;
      const uint32_t bits = _mm512_reduce_max_epu32(largest_magnitudes(in, y.block));
      split_block<kDigits>(in, y.block, bits, digits + b * y.block, y.stride,
                           y.unit + r * blocks + b, y.sum + r * blocks + b);
    }
    for (int d = 0; d < kDigits; ++d) {
      for (int64_t i = k; i < y.stride; ++i) digits[d * y.stride + i] = 0;
    }
  }
}

}  // namespace

void split_rows(const float* x, int64_t rows, int64_t k, const quant::DigitRows& y) {
  switch (y.num_digits) {
    case 1:
      return split<1>(x, rows, k, y);
    case 2:
      return split<2>(x, rows, k, y);
    default:
      return split<3>(x, rows, k, y);
  }
}

}  // namespace lmrun::kernels::avx512
