#include "engine/ceilings.h"

#include <doctest/doctest.h>

#include <string>

#include "base/check.h"

using lmrun::base::InvalidArgument;
using lmrun::engine::AttentionCase;
using lmrun::engine::GemmCase;
using lmrun::engine::measure_attention;
using lmrun::engine::measure_gemm;

namespace {

GemmCase gemm_case(const std::string& format) {
  return {"auto", format, 2, 1, 100, 128, 64, 32, int64_t{1} << 20, 0.001};
}

AttentionCase attention_case(int64_t kv_bits) {
  return {"auto", 2, kv_bits, 5, 70, 2, 2, 2, 16, 32, 0.001};
}

}  // namespace

TEST_CASE("bytes and operations of a gemm stand in the proportion of its format") {
  // One row of 112 (100 rounded up to tiles) x 128: two operations a weight of
  // the 100 features.
  const auto ratio = [](const std::string& format) {
    const auto speed = measure_gemm(gemm_case(format));
    CHECK(speed.bytes_per_s > 0);
    return speed.bytes_per_s / speed.flops_per_s;
  };
  constexpr double kOperations = 2.0 * 100 * 128;
  CHECK(ratio("F32") == doctest::Approx(112 * 128 * 4 / kOperations));
  CHECK(ratio("F16") == doctest::Approx(112 * 128 * 2 / kOperations));
  CHECK(ratio("BF16") == doctest::Approx(112 * 128 * 2 / kOperations));
  // A group of 64 shares three bytes of scale and zero.
  CHECK(ratio("u4") == doctest::Approx((112 * 64 + 112 * 2 * 3) / kOperations));
  CHECK(ratio("u8") == doctest::Approx((112 * 128 + 112 * 2 * 3) / kOperations));
  // A row shares four bytes of scale.
  CHECK(ratio("i8") == doctest::Approx((112 * 128 + 112 * 4) / kOperations));
}

TEST_CASE("attention counts the positions that each row sees") {
  for (const int64_t bits : {4, 8, 16, 32}) {
    CAPTURE(bits);
    const auto speed = measure_attention(attention_case(bits));
    // 5 rows at positions 65 to 69 see 66 + 67 + 68 + 69 + 70 positions.
    const double operations = 4.0 * 2 * 4 * 16 * 340;
    const double vector_bytes = 16.0 * static_cast<double>(bits) / 8 + (bits < 16 ? 4 : 0);
    const double bytes = 2.0 * 2 * 2 * 70 * vector_bytes;
    CHECK(speed.bytes_per_s / speed.flops_per_s == doctest::Approx(bytes / operations));
  }
}

TEST_CASE("the peak of the cores is a rate") { CHECK(lmrun::engine::measure_flops(1) > 1e6); }

TEST_CASE("products of bytes and bfloat16 have a rate, or none where the CPU lacks them") {
  for (const char* name : {"int8", "bf16"}) {
    CAPTURE(name);
    const double rate = lmrun::engine::measure_products(name, 2);
    CHECK((rate == 0 || rate > 1e8));
  }
  CHECK_THROWS_WITH_AS(lmrun::engine::measure_products("int4", 1),
                       "products of int4: expected int8 or bf16.", InvalidArgument);
}

TEST_CASE("cases that are not legal are refused by name") {
  const auto refused = [](const GemmCase& wanted, const char* text) {
    CHECK_THROWS_WITH_AS(measure_gemm(wanted), text, InvalidArgument);
  };
  GemmCase wanted = gemm_case("u4");
  wanted.format = "u3";
  refused(wanted, "format=u3: expected u4, u8, i8, F16, BF16 or F32.");
  wanted = gemm_case("u4");
  wanted.group_size = 40;
  refused(wanted, "group_size=40: expected a multiple of 8 that divides k=128.");
  wanted = gemm_case("i8");
  wanted.k = 131073;
  refused(wanted, "k=131073: expected at most 131072 for i8.");
  wanted = gemm_case("F16");
  wanted.rows = 0;
  refused(wanted, "rows=0: expected at least 1.");
  AttentionCase attention = attention_case(16);
  attention.kv_bits = 5;
  CHECK_THROWS_WITH_AS(measure_attention(attention), "kv_bits=5: expected 4, 8, 16 or 32.",
                       InvalidArgument);
  attention = attention_case(16);
  attention.head_dim = 20;
  CHECK_THROWS_WITH_AS(measure_attention(attention), "head_dim=20: expected a multiple of 8.",
                       InvalidArgument);
  attention = attention_case(4);
  attention.activation_bits = 4;
  CHECK_THROWS_WITH_AS(measure_attention(attention), "activation_bits=4: expected 32, 16 or 8.",
                       InvalidArgument);
  attention = attention_case(16);
  attention.context = 4;
  CHECK_THROWS_WITH_AS(measure_attention(attention), "context=4: expected at least the rows, 5.",
                       InvalidArgument);
}
