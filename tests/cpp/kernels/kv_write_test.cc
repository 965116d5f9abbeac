#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/cache_block.h"
#include "kernels/random_inputs.h"
#include "quant/kv_layouts.h"

namespace lmrun::kernels::testing {
namespace {

constexpr int64_t kSlots = 32;

quant::KvLayout one_head(int64_t dim, int bits) {
  return quant::kv_layouts({1, dim, kSlots}, std::vector<int64_t>{bits}).front();
}

// The vectors of one token as the cache gives them back.
struct Token {
  std::vector<double> k, v;
  double k_scale, v_scale;
};

Token write_and_read(const OpTable& ops, const quant::KvLayout& layout, const std::vector<float>& k,
                     const std::vector<float>& v, int64_t slot) {
  std::vector<std::byte> block(static_cast<size_t>(layout.block_bytes), std::byte{0xFF});
  ops.kv_write(layout, k.data(), v.data(), block.data(), slot);
  const std::vector<quant::KvLayout> layers = {layout};
  const CacheBlock read(layers, block.data());
  Token token{{}, {}, read.scale(0, 0, kKeys, slot), read.scale(0, 0, kValues, slot)};
  for (int64_t d = 0; d < layout.head_dim; ++d) {
    token.k.push_back(read.value(0, 0, kKeys, slot, d));
    token.v.push_back(read.value(0, 0, kValues, slot, d));
  }
  // Nothing but this token's bytes has changed.
  std::vector<std::byte> rest = block;
  for (const Part part : {kKeys, kValues}) {
    const auto begin = rest.begin() + (part == kKeys ? 0 : layout.part_bytes());
    for (int64_t byte = 0; byte < layout.code_bytes(); ++byte) {
      begin[read.byte_at(0, part, slot, byte)] = std::byte{0xFF};
    }
    if (layout.has_params()) {
      std::fill_n(begin + layout.params_offset() + slot * 4, 4, std::byte{0xFF});
    }
  }
  CHECK(std::all_of(rest.begin(), rest.end(), [](std::byte b) { return b == std::byte{0xFF}; }));
  return token;
}

// |x - x'| <= scale/2, plus what rounding scale and zero to f16 adds at the ends of the range.
double bound(const std::vector<float>& x, double scale, int bits) {
  if (bits == 32) return 0;
  double largest = 0;
  for (const float value : x) largest = std::max<double>(largest, std::abs(value));
  const double half_ulp = std::max(largest * 0x1p-11, 0x1p-25);  // of f16
  if (bits == 16) return half_ulp;
  const double codes = (1 << bits) - 1;
  const double scale_rounding = std::max(scale * 0x1p-11, 0x1p-25) * codes;
  return scale / 2 + half_ulp + scale_rounding;
}

TEST_CASE("a written vector reads back within half a step") {
  for (const Isa isa : supported_isas()) {
    for (const int bits : {32, 16, 8, 4}) {
      for (const int64_t dim : {8, 16, 24, 32, 64, 128}) {
        for (const float spread : {1e-3f, 1.0f, 300.0f}) {
          const quant::KvLayout layout = one_head(dim, bits);
          const std::vector<float> k = random_floats(dim, 41, spread);
          const std::vector<float> v = random_floats(dim, 43, spread);
          for (const int64_t slot : {0, 7, 15, 18, 31}) {
            const Token token = write_and_read(op_table(isa), layout, k, v, slot);
            for (size_t d = 0; d < k.size(); ++d) {
              CAPTURE(bits);
              CAPTURE(dim);
              CAPTURE(spread);
              CHECK(std::abs(token.k[d] - k[d]) <= bound(k, token.k_scale, bits));
              CHECK(std::abs(token.v[d] - v[d]) <= bound(v, token.v_scale, bits));
            }
          }
        }
      }
    }
  }
}

TEST_CASE("codes are rounded against the stored scale and zero, half to even") {
  // Range 0 .. 15: scale 1, zero 0, so a code is the rounded value itself.
  const std::vector<float> x = {0.0f, 15.0f, 0.5f, 1.5f, 2.5f, 3.5f, 14.5f, 7.49f};
  const std::vector<double> expected = {0, 15, 0, 2, 2, 4, 14, 7};
  for (const Isa isa : supported_isas()) {
    const Token token = write_and_read(op_table(isa), one_head(8, 4), x, x, 2);
    CHECK(token.k_scale == 1.0);
    CHECK(token.k == expected);
    CHECK(token.v == expected);
  }
}

TEST_CASE("a constant vector has scale 0 and reads back as its rounded value") {
  for (const Isa isa : supported_isas()) {
    for (const int bits : {8, 4}) {
      for (const float value : {0.0f, 1.0f, -3.140625f, 1000.0f}) {
        const std::vector<float> x(32, value);
        const Token token = write_and_read(op_table(isa), one_head(32, bits), x, x, 1);
        CHECK(token.k_scale == 0.0);
        CHECK(token.k == std::vector<double>(32, value));
      }
    }
  }
}

TEST_CASE("values past the range of f16 saturate and stay finite") {
  for (const Isa isa : supported_isas()) {
    for (const int bits : {16, 8, 4}) {
      std::vector<float> x = random_floats(16, 47);
      x[3] = 3e38f;
      x[4] = -3e38f;
      const Token token = write_and_read(op_table(isa), one_head(16, bits), x, x, 1);
      for (const double value : token.k) CHECK(std::isfinite(value));
      CHECK(token.k[3] >= 65504.0);
      CHECK(token.k[4] == -65504.0);
    }
  }
}

TEST_CASE("every isa writes the same bytes") {
  for (const int bits : {32, 16, 8, 4}) {
    for (const int64_t dim : {8, 24, 64, 128}) {
      const quant::KvLayout layout = one_head(dim, bits);
      for (uint32_t seed = 0; seed < 50; ++seed) {
        const std::vector<float> k = random_floats(dim, seed, std::exp2(seed * 0.7f - 20.0f));
        const std::vector<float> v = random_floats(dim, seed + 1000);
        std::vector<std::byte> expected;
        for (const Isa isa : supported_isas()) {
          std::vector<std::byte> block(static_cast<size_t>(layout.block_bytes));
          op_table(isa).kv_write(layout, k.data(), v.data(), block.data(), 21);
          if (expected.empty()) expected = block;
          CAPTURE(bits);
          CAPTURE(dim);
          CAPTURE(seed);
          CHECK(block == expected);
        }
      }
    }
  }
}

TEST_CASE("f16 conversion is exact one way and rounds to nearest even the other") {
  using reference::f16_from_float;
  using reference::float_from_f16;
  for (uint32_t bits = 0; bits < 0x7C00; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = float_from_f16(half);
    const double expected =
        bits < 0x400 ? std::ldexp(bits, -24)
                     : std::ldexp((bits & 0x3FF) + 1024, static_cast<int>(bits >> 10) - 25);
    REQUIRE(value == expected);
    REQUIRE(float_from_f16(half | 0x8000) == -value);
    REQUIRE(f16_from_float(value) == half);
    REQUIRE(f16_from_float(-value) == (half | 0x8000));
    const float next = bits == 0x7BFF ? 65536.0f : float_from_f16(static_cast<uint16_t>(bits + 1));
    const float middle = value + (next - value) / 2;  // exact in f32
    const uint32_t even = bits % 2 == 0 ? bits : bits + 1;
    REQUIRE(f16_from_float(middle) == even);
    REQUIRE(f16_from_float(std::nextafter(middle, 0.0f)) == bits);
    REQUIRE(f16_from_float(std::nextafter(middle, 1e9f)) == bits + 1);
  }
  CHECK(f16_from_float(INFINITY) == 0x7C00);
  CHECK(f16_from_float(-INFINITY) == 0xFC00);
  CHECK(std::isinf(float_from_f16(0x7C00)));
  CHECK(std::isnan(float_from_f16(f16_from_float(NAN))));
}

}  // namespace
}  // namespace lmrun::kernels::testing
