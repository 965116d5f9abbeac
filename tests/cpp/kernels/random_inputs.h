// Seeded inputs, packed matrices and the tolerance table of the kernel tests.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/half.h"
#include "kernels/kernels.h"

namespace lmrun::kernels::testing {

using quant::PackedMatrix;
using quant::WeightFormat;

inline std::vector<float> random_floats(int64_t count, uint32_t seed, float spread = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(generator);
  return values;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

inline std::string format_name(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
      return "f32";
    case WeightFormat::kF16:
      return "f16";
    case WeightFormat::kBf16:
      return "bf16";
    case WeightFormat::kU4:
      return "u4";
    case WeightFormat::kU8:
      return "u8";
    case WeightFormat::kI8:
      return "i8";
  }
  return "";
}

// Largest |result - float64 result| per sum of the absolute values of the terms, by weight dtype.
// fp32 rounds to 6e-8; a chain of n terms adds about sqrt(n) of that.
inline double tolerance(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
    case WeightFormat::kF16:
    case WeightFormat::kBf16:
      return 5e-7;
    case WeightFormat::kU4:
    case WeightFormat::kU8:
      return 5e-7;  // terms count as |x| * scale * (code + zero)
    case WeightFormat::kI8:
      return 0;  // exact: compared to the bit
  }
  return 0;
}

// Likewise of attention, by bits of the cache, per largest |v|: exact but for fp32, whatever the
// codes.
inline double attention_tolerance(int bits) { return bits == 32 ? 1e-6 : 2e-6; }

// A matrix packed as csrc/workspace/README.md says, and its values as stored.
class TestMatrix {
 public:
  TestMatrix(WeightFormat format, int64_t n, int64_t k, int64_t group, bool has_bias,
             uint32_t seed) {
    view_.format = format;
    view_.n = n;
    view_.k = k;
    tiles_ = (n + 15) / 16;
    if (format == WeightFormat::kU4 || format == WeightFormat::kU8) {
      pack_groups(group, seed);
    } else if (format == WeightFormat::kI8) {
      pack_rows(seed);
    } else {
      pack_float(seed);
    }
    if (has_bias) {
      bias_ = random_floats(n, seed + 1);
      view_.bias = bias_.data();
    }
    view_.weight = reinterpret_cast<const std::byte*>(words_.data());
  }
  TestMatrix(const TestMatrix&) = delete;
  TestMatrix& operator=(const TestMatrix&) = delete;

  const PackedMatrix& view() const { return view_; }
  double value(int64_t n, int64_t k) const { return values_[index(n, k)]; }
  double magnitude(int64_t n, int64_t k) const { return magnitudes_[index(n, k)]; }

 private:
  size_t index(int64_t n, int64_t k) const { return static_cast<size_t>(n * view_.k + k); }

  void pack_float(uint32_t seed) {
    const int64_t inputs = view_.format == WeightFormat::kF32 ? 1 : 2;
    const int64_t rows = (view_.k + inputs - 1) / inputs;
    words_.assign(static_cast<size_t>(tiles_ * rows * 16), 0);
    const std::vector<float> source = random_floats(view_.n * view_.k, seed);
    for (int64_t n = 0; n < view_.n; ++n) {
      for (int64_t k = 0; k < view_.k; ++k) {
        const float value = source[index(n, k)];
        auto* word = reinterpret_cast<std::byte*>(
            &words_[static_cast<size_t>((n / 16 * rows + k / inputs) * 16 + n % 16)]);
        float stored = value;
        if (view_.format == WeightFormat::kF32) {
          std::memcpy(word, &value, 4);
        } else if (view_.format == WeightFormat::kF16) {
          const uint16_t half = reference::f16_from_float(value);
          stored = reference::float_from_f16(half);
          std::memcpy(word + k % 2 * 2, &half, 2);
        } else {
          uint32_t bits = 0;
          std::memcpy(&bits, &value, 4);
          const auto half = static_cast<uint16_t>(bits >> 16);
          stored = reference::float_from_bf16(half);
          std::memcpy(word + k % 2 * 2, &half, 2);
        }
        values_.push_back(stored);
        magnitudes_.push_back(std::abs(stored));
      }
    }
  }

  // Codes of `inputs` (8 or 4) a word: the low nibbles of four, then the high ones; or bytes.
  void put_code(int64_t n, int64_t k, int64_t inputs, uint32_t code) {
    const int64_t rows = (view_.k + inputs - 1) / inputs;
    auto* word = reinterpret_cast<uint8_t*>(
        &words_[static_cast<size_t>((n / 16 * rows + k / inputs) * 16 + n % 16)]);
    const int64_t input = k % inputs;
    word[input % 4] |= static_cast<uint8_t>(code << (input < 4 ? 0 : 4));
  }

  // Every other seed stores its scales as f32.
  void pack_groups(int64_t group, uint32_t seed) {
    const bool is_u4 = view_.format == WeightFormat::kU4;
    const uint32_t codes = is_u4 ? 16 : 256;
    view_.group_size = group;
    const int64_t groups = view_.k / group;
    words_.assign(static_cast<size_t>(tiles_ * view_.k / (is_u4 ? 8 : 4) * 16), 0);
    scales_.assign(static_cast<size_t>(tiles_ * groups * 16), 0);
    scales32_.assign(scales_.size(), 0);
    zeros_.assign(static_cast<size_t>(tiles_ * groups * 16), 0);
    std::mt19937 generator(seed);
    const bool is_f32 = seed % 4 == 1;
    for (int64_t n = 0; n < view_.n; ++n) {
      for (int64_t k = 0; k < view_.k; ++k) {
        const size_t params = static_cast<size_t>((n / 16 * groups + k / group) * 16 + n % 16);
        if (k % group == 0) {
          const float scale = (0.01f + generator() % 1000 * 1e-4f) * 16 / codes;
          scales32_[params] = scale;
          scales_[params] = reference::f16_from_float(scale);
          zeros_[params] = static_cast<uint8_t>(generator() % codes);
        }
        const uint32_t code = generator() % codes;
        put_code(n, k, is_u4 ? 8 : 4, code);
        const double scale =
            is_f32 ? scales32_[params] : reference::float_from_f16(scales_[params]);
        values_.push_back((static_cast<double>(code) - zeros_[params]) * scale);
        magnitudes_.push_back((static_cast<double>(code) + zeros_[params]) * scale);
      }
    }
    if (is_f32) {
      view_.scale32 = scales32_.data();
    } else {
      view_.scale16 = scales_.data();
    }
    view_.zero = zeros_.data();
  }

  // Values are the int8 weights without their scales.
  void pack_rows(uint32_t seed) {
    words_.assign(static_cast<size_t>(tiles_ * ((view_.k + 3) / 4) * 16), 0);
    scales32_.assign(static_cast<size_t>(tiles_ * 16), 0);
    std::mt19937 generator(seed);
    for (int64_t n = 0; n < view_.n; ++n) {
      scales32_[static_cast<size_t>(n)] = 0.001f + generator() % 1000 * 1e-5f;
      for (int64_t k = 0; k < view_.k; ++k) {
        const uint32_t code = generator() % 256;
        put_code(n, k, 4, code);
        values_.push_back(static_cast<double>(code) - 128);
        magnitudes_.push_back(std::abs(values_.back()));
      }
    }
    view_.scale32 = scales32_.data();
  }

  PackedMatrix view_;
  int64_t tiles_ = 0;
  std::vector<uint32_t> words_;
  std::vector<uint16_t> scales_;
  std::vector<float> scales32_;
  std::vector<uint8_t> zeros_;
  std::vector<float> bias_;
  std::vector<double> values_;
  std::vector<double> magnitudes_;
};

}  // namespace lmrun::kernels::testing
