#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/cpu_features.h"
#include "kernels/cpu/amx.h"
#include "kernels/cpu/avx512.h"
#include "kernels/random_inputs.h"

namespace lmrun::kernels::testing {
namespace {

using quant::QuantizedRows;

// Codes of rows with room for them. Room past the codes is spoilt first.
class Codes {
 public:
  Codes(int64_t rows, int64_t k)
      : codes_(static_cast<size_t>(rows * quant::quantized_stride(k)), 55),
        scales_(static_cast<size_t>(rows), -1),
        sums_(static_cast<size_t>(rows), -1),
        view_{codes_.data(), quant::quantized_stride(k), scales_.data(), sums_.data()} {}
  Codes(const Codes&) = delete;
  Codes& operator=(const Codes&) = delete;

  const QuantizedRows& view() const { return view_; }
  const std::vector<int8_t>& codes() const { return codes_; }
  const std::vector<float>& scales() const { return scales_; }
  const std::vector<int32_t>& sums() const { return sums_; }
  int8_t code(int64_t r, int64_t k) const {
    return codes_[static_cast<size_t>(r * view_.stride + k)];
  }

 private:
  std::vector<int8_t> codes_;
  std::vector<float> scales_;
  std::vector<int32_t> sums_;
  QuantizedRows view_;
};

struct Variant {
  std::string name;
  decltype(OpTable::gemm_i8) gemm;
};

// Each loop that this machine can run.
std::vector<Variant> variants() {
  std::vector<Variant> all = {{"generic", op_table(Isa::kGeneric).gemm_i8}};
#if defined(__x86_64__)
  const base::CpuFeatures cpu = base::detect_cpu_features();
  if (cpu.missing_for_avx512().empty()) {
    all.push_back({"words", avx512::gemm_i8_words});
    if (cpu.avx512vnni) all.push_back({"vnni", avx512::gemm_i8_vnni});
    if (cpu.missing_for_amx().empty() && base::allow_tiles()) {
      all.push_back({"tiles", amx::gemm_i8_tiles});
    }
  }
#endif
  return all;
}

const std::pair<int64_t, int64_t> kShapes[] = {{1, 1},   {5, 7},     {16, 64},    {33, 96},
                                               {70, 66}, {100, 129}, {150, 1101}, {17, 4096}};

TEST_CASE("a row is quantized by its own largest magnitude, to nearest, ties to even") {
  // The largest is 127 steps of 0.5; 0.25 and 0.75 lie between codes.
  const std::vector<float> x = {63.5f, -63.5f, 0.25f, 0.75f, -0.25f, 1.25f, 0.0f, 10.0f};
  const std::vector<int> expected = {127, -127, 0, 2, 0, 2, 0, 20};
  for (const Isa isa : supported_isas()) {
    Codes codes(1, 8);
    op_table(isa).quantize_rows(x.data(), 1, 8, codes.view());
    CAPTURE(isa_name(isa));
    CHECK(codes.scales()[0] == 0.5f);
    CHECK(codes.sums()[0] == 24);
    for (int64_t k = 0; k < 8; ++k) CHECK(codes.code(0, k) == expected[static_cast<size_t>(k)]);
    for (int64_t k = 8; k < codes.view().stride; ++k) CHECK(codes.code(0, k) == 0);
  }
}

TEST_CASE("rows of zeros, of tiny and of the largest numbers have codes within the range") {
  const float tiny = std::numeric_limits<float>::denorm_min();
  const float large = std::numeric_limits<float>::max();
  for (const Isa isa : supported_isas()) {
    CAPTURE(isa_name(isa));
    for (const auto& x : {std::vector<float>{0, 0, -0.0f},
                          {tiny, -tiny, 0},
                          {100 * tiny, -90 * tiny, 0},
                          {large, -large, 1}}) {
      Codes codes(1, 3);
      op_table(isa).quantize_rows(x.data(), 1, 3, codes.view());
      CHECK(std::isfinite(codes.scales()[0]));
      for (int64_t k = 0; k < 3; ++k) CHECK(std::abs(int{codes.code(0, k)}) <= 127);
      if (codes.scales()[0] == 0) CHECK(codes.sums()[0] == 0);
    }
  }
}

TEST_CASE("a row that is not finite keeps a scale that is not") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const Isa isa : supported_isas()) {
    CAPTURE(isa_name(isa));
    for (const float bad : {nan, -nan, infinity, -infinity}) {
      for (const int64_t at : {0, 17, 69}) {
        std::vector<float> x = random_floats(140, 3);
        x[static_cast<size_t>(70 + at)] = bad;
        Codes codes(2, 70);
        op_table(isa).quantize_rows(x.data(), 2, 70, codes.view());
        CHECK(std::isfinite(codes.scales()[0]));
        CHECK_FALSE(std::isfinite(codes.scales()[1]));
        CHECK(codes.sums()[1] == 0);
        for (int64_t k = 0; k < 70; ++k) CHECK(codes.code(1, k) == 0);
      }
    }
  }
}

TEST_CASE("codes, scales and sums of rows are the same bits on every ISA, alone and together") {
  for (const auto& [n, k] : kShapes) {
    constexpr int64_t kRows = 5;
    const std::vector<float> x = random_floats(kRows * k, 29, 3.0f);
    Codes expected(kRows, k);
    op_table(Isa::kGeneric).quantize_rows(x.data(), kRows, k, expected.view());
    for (int64_t r = 0; r < kRows; ++r) {
      int32_t sum = 0;
      for (int64_t i = 0; i < k; ++i) {
        sum += expected.code(r, i);
        const double back = expected.code(r, i) * static_cast<double>(expected.scales()[r]);
        CHECK(std::abs(back - x[static_cast<size_t>(r * k + i)]) <=
              expected.scales()[static_cast<size_t>(r)] * 0.500001);
      }
      CHECK(sum == expected.sums()[static_cast<size_t>(r)]);
    }
    for (const Isa isa : supported_isas()) {
      Codes together(kRows, k);
      op_table(isa).quantize_rows(x.data(), kRows, k, together.view());
      CAPTURE(isa_name(isa));
      CAPTURE(k);
      CHECK(together.codes() == expected.codes());
      CHECK(same_bits(together.scales(), expected.scales()));
      CHECK(together.sums() == expected.sums());
      for (int64_t r = 0; r < kRows; ++r) {
        Codes alone(1, k);
        op_table(isa).quantize_rows(x.data() + r * k, 1, k, alone.view());
        CHECK(std::memcmp(alone.codes().data(),
                          expected.codes().data() + r * expected.view().stride,
                          alone.codes().size()) == 0);
        CHECK(alone.scales()[0] == expected.scales()[static_cast<size_t>(r)]);
      }
    }
  }
}

TEST_CASE("gemm_i8 is the exact sum of products of int8 and one product of scales, to the bit") {
  for (const auto& [n, k] : kShapes) {
    for (const bool has_bias : {false, true}) {
      const TestMatrix w(WeightFormat::kI8, n, k, 0, has_bias, 7);
      for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 12, 13, 33}) {
        const std::vector<float> x = random_floats(rows * k, 11);
        Codes codes(rows, k);
        op_table(Isa::kGeneric).quantize_rows(x.data(), rows, k, codes.view());
        std::vector<float> expected(static_cast<size_t>(rows * n));
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t i = 0; i < n; ++i) {
            int64_t sum = 0;
            for (int64_t j = 0; j < k; ++j) {
              sum += int64_t{codes.code(r, j)} * static_cast<int64_t>(w.value(i, j));
            }
            float& y = expected[static_cast<size_t>(r * n + i)];
            const float scale = codes.scales()[static_cast<size_t>(r)] * w.view().scale32[i];
            y = static_cast<float>(sum) * scale;
            if (has_bias) y += w.view().bias[i];
          }
        }
        for (const Variant& variant : variants()) {
          std::vector<float> y(expected.size());
          variant.gemm(w.view(), codes.view(), rows, 0, w.view().num_tiles(), y.data(), n);
          CAPTURE(variant.name);
          CAPTURE(n);
          CAPTURE(k);
          CAPTURE(rows);
          CHECK(same_bits(y, expected));
        }
      }
    }
  }
}

TEST_CASE("gemm_i8 sums up the most inputs of the largest codes without a wrap") {
  constexpr int64_t kInputs = quant::kMostI8Inputs;
  std::vector<uint8_t> weight(static_cast<size_t>(kInputs * 16), 0);  // int8 -128
  const std::vector<float> scales(16, 1.0f);
  PackedMatrix w;
  w.format = WeightFormat::kI8;
  w.n = 16;
  w.k = kInputs;
  w.weight = reinterpret_cast<const std::byte*>(weight.data());
  w.scale32 = scales.data();
  const std::vector<float> x(static_cast<size_t>(kInputs), 127.0f);
  Codes codes(1, kInputs);
  op_table(Isa::kGeneric).quantize_rows(x.data(), 1, kInputs, codes.view());
  REQUIRE(codes.code(0, kInputs - 1) == 127);
  for (const Variant& variant : variants()) {
    std::vector<float> y(16);
    variant.gemm(w, codes.view(), 1, 0, 1, y.data(), 16);
    CAPTURE(variant.name);
    CHECK(y[3] == static_cast<float>(-128.0 * 127.0 * kInputs));
  }
}

TEST_CASE("gemm_i8 over a range of tiles writes those features and nothing else") {
  constexpr float kUntouched = 12345.0f;
  const TestMatrix w(WeightFormat::kI8, 150, 97, 0, true, 19);
  const int64_t n = w.view().n;
  for (const Variant& variant : variants()) {
    for (const int64_t rows : {1, 3, 8}) {
      const std::vector<float> x = random_floats(rows * 97, 23);
      Codes codes(rows, 97);
      op_table(Isa::kGeneric).quantize_rows(x.data(), rows, 97, codes.view());
      const int64_t tiles = w.view().num_tiles();
      std::vector<float> whole(static_cast<size_t>(rows * n));
      variant.gemm(w.view(), codes.view(), rows, 0, tiles, whole.data(), n);
      for (int64_t begin = 0; begin < tiles; ++begin) {
        for (int64_t end = begin + 1; end <= tiles; ++end) {
          const int64_t ldy = n + 20;
          std::vector<float> y(static_cast<size_t>(rows * ldy), kUntouched);
          variant.gemm(w.view(), codes.view(), rows, begin, end, y.data(), ldy);
          std::vector<float> expected(y.size(), kUntouched);
          for (int64_t r = 0; r < rows; ++r) {
            for (int64_t i = begin * 16; i < std::min(end * 16, n); ++i) {
              expected[static_cast<size_t>(r * ldy + i)] = whole[static_cast<size_t>(r * n + i)];
            }
          }
          CAPTURE(variant.name);
          CAPTURE(begin);
          CAPTURE(end);
          CHECK(same_bits(y, expected));
        }
      }
    }
  }
}

TEST_CASE("gather takes the inputs in the order of the columns") {
  for (const Isa isa : supported_isas()) {
    for (const int64_t k : {1, 7, 16, 33}) {
      const std::vector<float> x = random_floats(3 * k, 31);
      std::vector<int32_t> order(static_cast<size_t>(k));
      for (int64_t i = 0; i < k; ++i)
        order[static_cast<size_t>(i)] = static_cast<int32_t>(k - 1 - i);
      std::vector<float> y(x.size() + 1, 7.0f);
      op_table(isa).gather(x.data(), 3, k, order.data(), y.data());
      CAPTURE(isa_name(isa));
      CAPTURE(k);
      for (int64_t r = 0; r < 3; ++r) {
        for (int64_t i = 0; i < k; ++i) {
          CHECK(y[static_cast<size_t>(r * k + i)] == x[static_cast<size_t>(r * k + k - 1 - i)]);
        }
      }
      CHECK(y.back() == 7.0f);
    }
  }
}

}  // namespace
}  // namespace lmrun::kernels::testing
