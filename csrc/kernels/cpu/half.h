// f16 and bf16 in portable C++. The AVX-512 files use the instructions instead.
#pragma once

#include <bit>
#include <cstdint>

namespace lmrun::kernels::reference {

inline float float_from_bf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

inline float float_from_f16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t rest = bits & 0x7FFF;
  if (rest >= 0x7C00) {  // infinity and NaN
    return std::bit_cast<float>(sign | 0x7F800000 | ((rest & 0x3FF) << 13));
  }
  if (rest >= 0x0400) {
    return std::bit_cast<float>(sign | ((rest << 13) + ((127u - 15u) << 23)));
  }
  const float magnitude = static_cast<float>(rest) * 0x1p-24f;  // denormal, exact
  return sign != 0 ? -magnitude : magnitude;
}

// To nearest, ties to even; denormals kept, overflow to infinity, NaN stays NaN.
inline uint16_t f16_from_float(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t rest = bits & 0x7FFFFFFF;
  if (rest > 0x7F800000) {  // NaN: quiet, the upper bits of the payload kept
    return static_cast<uint16_t>(sign | 0x7E00 | ((rest >> 13) & 0x3FF));
  }
  if (rest >= 0x477FF000) return sign | 0x7C00;  // from 65520 on
  if (rest >= 0x38800000) {                      // normal: from 2^-14 on
    const uint32_t odd = (rest >> 13) & 1;
    return static_cast<uint16_t>(sign | ((rest - ((127u - 15u) << 23) + 0xFFF + odd) >> 13));
  }
  // Denormal: adding 0.5 puts the last kept bit at 2^-24 and rounds as f32 addition rounds.
  const float shifted = std::bit_cast<float>(rest) + 0.5f;
  return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000));
}

}  // namespace lmrun::kernels::reference
