// From the largest magnitude of a block to the scale of its digits: one piece for the files of any
// instruction set, since all must give the same bits.
#pragma once

#include "kernels/cpu/simd.h"

namespace lmrun::kernels {

struct DigitScale {
  float factor;  // inputs times this are whole numbers that the digits can say
  float unit;    // and its inverse, for the way back
};

// 2^n for n of a normal number.
LMRUN_INLINE float power_of_two(int32_t n) {
  const int32_t word = (127 + n) << 23;
  float result = 0;
  __builtin_memcpy(&result, &word, sizeof(result));
  return result;
}

// `bits` are those of the largest magnitude, which is finite.
template <int kDigits>
LMRUN_INLINE DigitScale digit_scale(uint32_t bits) {
  constexpr float kMost = kDigits == 1 ? 127.0f : kDigits == 2 ? 32639.0f : 8355711.0f;
  float largest = 0;
  __builtin_memcpy(&largest, &bits, sizeof(largest));
  if (largest < 0x1p-100f) largest = 0x1p-100f;
  if constexpr (kDigits < 3) return {kMost / largest, largest / kMost};
  __builtin_memcpy(&bits, &largest, sizeof(bits));
  int32_t exponent = static_cast<int32_t>(bits >> 23) - 127 - 22;
  if (largest * power_of_two(-exponent) > kMost) ++exponent;
  return {power_of_two(-exponent), power_of_two(exponent)};
}

}  // namespace lmrun::kernels
