#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "base/cpu_features.h"
#include "kernels/cpu/amx.h"
#include "kernels/cpu/avx512.h"
#include "kernels/random_inputs.h"

namespace lmrun::kernels::testing {
namespace {

struct Shape {
  WeightFormat format;
  int64_t n, k, group;
};

// Tiny, odd and past each boundary of the kernels: N off 16, odd K, K off the
// block of 64 and past the 1024 inputs that are packed at a time, groups of 8,
// of a whole row, of more than the 1024 inputs of a chain: cut into two, and (8
// * 131) into blocks of 8. Stretches of inputs that some number of rows fills
// up to a cache line that is begun: 1248 of 13, 1488 of 11.
std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const WeightFormat format : {WeightFormat::kF32, WeightFormat::kF16, WeightFormat::kBf16}) {
    for (const auto& [n, k] :
         {std::pair<int64_t, int64_t>{1, 1}, {5, 7}, {16, 64}, {33, 96}, {100, 129}, {48, 1101}}) {
      all.push_back({format, n, k, 0});
    }
  }
  for (const WeightFormat format : {WeightFormat::kU4, WeightFormat::kU8}) {
    for (const auto& [n, k, group] : {std::tuple<int64_t, int64_t, int64_t>{5, 32, 32},
                                      {1, 8, 8},
                                      {33, 64, 32},
                                      {18, 72, 24},
                                      {33, 200, 200},
                                      {16, 192, 64},
                                      {100, 384, 128},
                                      {17, 1280, 128},
                                      {20, 2112, 1056},
                                      {17, 1048, 1048},
                                      {17, 1248, 32},
                                      {17, 1488, 48}}) {
      all.push_back({format, n, k, group});
    }
  }
  return all;
}

struct Table {
  const char* name;
  const OpTable* ops;
};

// Each table that this machine can run: products of codes as integers and as
// floats.
std::vector<Table> tables() {
  std::vector<Table> all = {{"generic", &op_table(Isa::kGeneric)}};
#if defined(__x86_64__)
  const base::CpuFeatures cpu = base::detect_cpu_features();
  if (cpu.missing_for_avx2().empty()) all.push_back({"avx2", &op_table(Isa::kAvx2)});
  if (cpu.missing_for_avx512().empty()) {
    all.push_back({"avx512 without vnni", &avx512::ops(false)});
    if (cpu.avx512vnni) all.push_back({"avx512", &avx512::ops(true)});
    if (cpu.missing_for_amx().empty() && base::allow_tiles()) {
      static const OpTable kTiles = [] {
        OpTable ops = avx512::ops(true);
        ops.gemm_codes = amx::gemm_codes_tiles;
        return ops;
      }();
      all.push_back({"amx, tiles for any number of rows", &kTiles});
      all.push_back({"amx", &op_table(Isa::kAmx)});
    }
  }
#endif
  return all;
}

// Inputs of a matrix of codes, split into digits.
class Split {
 public:
  Split(const OpTable& ops, const PackedMatrix& w, const float* x, int64_t rows, int64_t digits)
      : digits_(static_cast<size_t>(rows * digits * quant::quantized_stride(w.k)), 99),
        unit_(static_cast<size_t>(rows * w.num_blocks())),
        sum_(unit_.size()),
        view_{digits_.data(),   digits,       quant::quantized_stride(w.k),
              w.block_inputs(), unit_.data(), sum_.data()} {
    ops.split_rows(x, rows, w.k, view_);
  }
  Split(const Split&) = delete;
  Split& operator=(const Split&) = delete;
  const quant::DigitRows& view() const { return view_; }
  const std::vector<int8_t>& digits() const { return digits_; }
  const std::vector<float>& unit() const { return unit_; }
  const std::vector<float>& sum() const { return sum_; }

 private:
  std::vector<int8_t> digits_;
  std::vector<float> unit_;
  std::vector<float> sum_;
  quant::DigitRows view_;
};

void run_tiles(const OpTable& ops, const PackedMatrix& w, const float* x, int64_t rows,
               int64_t digits, int64_t begin, int64_t end, float* y, int64_t ldy) {
  if (w.has_groups()) {
    const Split split(ops, w, x, rows, digits);
    ops.gemm_codes(w, split.view(), rows, begin, end, y, ldy);
  } else {
    ops.gemm(w, x, rows, begin, end, y, ldy);
  }
}

std::vector<float> run(const OpTable& ops, const PackedMatrix& w, const float* x, int64_t rows,
                       int64_t digits = 3) {
  std::vector<float> y(static_cast<size_t>(rows * w.n));
  run_tiles(ops, w, x, rows, digits, 0, w.num_tiles(), y.data(), w.n);
  return y;
}

// Digits to try: one case for formats that have none.
std::vector<int64_t> digits_of(const Shape& shape) {
  if (shape.group == 0) return {0};
  return {1, 2, 3};
}

TEST_CASE("a long group is cut into even blocks of at most 1024 inputs") {
  for (const auto& [group, block] : {std::pair<int64_t, int64_t>{8, 8},
                                     {64, 64},
                                     {1024, 1024},
                                     {1032, 344},
                                     {2048, 1024},
                                     {5632, 704},
                                     {11008, 688},
                                     {1048, 8}}) {
    PackedMatrix w;
    w.k = 3 * group;
    w.group_size = group;
    CHECK(w.block_inputs() == block);
    CHECK(w.num_blocks() == 3 * group / block);
  }
}

TEST_CASE("gemm agrees with a float64 loop") {
  for (const Table& table : tables()) {
    for (const Shape& shape : shapes()) {
      for (const bool has_bias : {false, true}) {
        const uint32_t seed = has_bias ? 9 : 7;  // scales in f32, and in f16
        const TestMatrix w(shape.format, shape.n, shape.k, shape.group, has_bias, seed);
        for (const int64_t rows : {1, 2, 3, 4, 5, 8, 9, 11, 14, 16, 17, 33}) {
          const std::vector<float> x = random_floats(rows * shape.k, 11);
          const std::vector<float> y = run(*table.ops, w.view(), x.data(), rows);
          double worst = 0;
          for (int64_t r = 0; r < rows; ++r) {
            for (int64_t n = 0; n < shape.n; ++n) {
              double expected = has_bias ? w.view().bias[n] : 0.0;
              double size = std::abs(expected);
              for (int64_t k = 0; k < shape.k; ++k) {
                const double value = x[static_cast<size_t>(r * shape.k + k)];
                expected += value * w.value(n, k);
                size += std::abs(value) * w.magnitude(n, k);
              }
              const double error = std::abs(y[static_cast<size_t>(r * shape.n + n)] - expected);
              worst = std::max(worst, error / size);
            }
          }
          CAPTURE(table.name);
          CAPTURE(format_name(shape.format));
          CAPTURE(shape.n);
          CAPTURE(shape.k);
          CAPTURE(rows);
          CHECK(worst <= tolerance(shape.format));
        }
      }
    }
  }
}

TEST_CASE(
    "inputs of any size beside large ones lose no more than 2^-23 of the "
    "largest") {
  const float tiny = std::numeric_limits<float>::min();
  for (const Table& table : tables()) {
    for (const WeightFormat format : {WeightFormat::kU4, WeightFormat::kU8}) {
      const TestMatrix w(format, 20, 256, 64, false, 29);
      for (const float outlier : {1e4f, 1e30f, 1e-30f, 8355711.5f, 8388607.0f, tiny, 0.0f}) {
        std::vector<float> x = random_floats(256, 31);
        for (size_t k = 0; k < x.size(); k += 64) x[k + 5] = k == 128 ? -outlier : outlier;
        if (outlier < 1) {  // nothing large beside it
          for (float& value : x) value *= outlier;
        }
        const std::vector<float> y = run(*table.ops, w.view(), x.data(), 1);
        for (int64_t n = 0; n < 20; ++n) {
          double expected = 0;
          double bound = 0;
          for (int64_t k = 0; k < 256; ++k) {
            const double value = x[static_cast<size_t>(k)];
            double largest = 0;
            for (int64_t j = k / 64 * 64; j < k / 64 * 64 + 64; ++j) {
              largest = std::max<double>(largest, std::abs(x[static_cast<size_t>(j)]));
            }
            expected += value * w.value(n, k);
            bound += (largest * 0x1p-23 + std::abs(value) * 5e-7 + 0x1p-122) * w.magnitude(n, k);
          }
          CAPTURE(table.name);
          CAPTURE(outlier);
          CHECK(std::abs(y[static_cast<size_t>(n)] - expected) <= bound);
        }
      }
    }
  }
}

TEST_CASE(
    "a row with an input that is not finite gives numbers that are not, "
    "and no other does") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const Table& table : tables()) {
    for (const WeightFormat format : {WeightFormat::kU4, WeightFormat::kU8, WeightFormat::kF16}) {
      const TestMatrix w(format, 20, 256, 64, false, 29);
      for (const float bad : {nan, infinity, -infinity}) {
        std::vector<float> x = random_floats(3 * 256, 31);
        x[256 + 100] = bad;
        const std::vector<float> y = run(*table.ops, w.view(), x.data(), 3);
        for (size_t i = 0; i < y.size(); ++i) {
          CAPTURE(table.name);
          CHECK(std::isfinite(y[i]) == (i / 20 != 1));
        }
      }
    }
  }
}

TEST_CASE("split_rows and gemm_codes are the same bits on every ISA") {
  const OpTable& plain = op_table(Isa::kGeneric);
  for (const Table& table : tables()) {
    for (const Shape& shape : shapes()) {
      if (shape.group == 0) continue;
      const TestMatrix w(shape.format, shape.n, shape.k, shape.group, shape.n % 2 == 0, 9);
      for (const int64_t rows : {1, 2, 3, 7, 12, 17}) {
        std::vector<float> x = random_floats(rows * shape.k, 41);
        for (int64_t k = 0; k < 8; ++k) x[static_cast<size_t>(k)] = 0;  // whole blocks of a few
        x[static_cast<size_t>(shape.k - 1)] = 1e30f;
        for (const int64_t digits : digits_of(shape)) {
          const Split expected(plain, w.view(), x.data(), rows, digits);
          const Split split(*table.ops, w.view(), x.data(), rows, digits);
          CAPTURE(table.name);
          CAPTURE(format_name(shape.format));
          CAPTURE(shape.k);
          CAPTURE(rows);
          CAPTURE(digits);
          CHECK(split.digits() == expected.digits());
          CHECK(same_bits(split.unit(), expected.unit()));
          CHECK(same_bits(split.sum(), expected.sum()));
          CHECK(same_bits(run(*table.ops, w.view(), x.data(), rows, digits),
                          run(plain, w.view(), x.data(), rows, digits)));
        }
      }
    }
  }
}

TEST_CASE(
    "digits say each input to half a unit, and a unit is the largest "
    "number's share") {
  for (const int64_t digits : {1, 2, 3}) {
    const double most = digits == 1 ? 127 : digits == 2 ? 32639 : 8355711;
    for (const float size : {1.0f, 1e-20f, 1e30f}) {
      PackedMatrix w;
      w.format = WeightFormat::kU4;
      w.k = 192;
      w.group_size = 64;
      const std::vector<float> x = random_floats(2 * w.k, 43, size);
      const Split split(op_table(Isa::kGeneric), w, x.data(), 2, digits);
      const int64_t stride = split.view().stride;
      for (int64_t r = 0; r < 2; ++r) {
        for (int64_t b = 0; b < 3; ++b) {
          const double unit = split.unit()[static_cast<size_t>(r * 3 + b)];
          double largest = 0;
          double sum = 0;
          for (int64_t k = b * 64; k < b * 64 + 64; ++k) {
            const double value = x[static_cast<size_t>(r * w.k + k)];
            double number = 0;
            for (int64_t d = digits; d-- > 0;) {
              number =
                  number * 256 + split.digits()[static_cast<size_t>((r * digits + d) * stride + k)];
            }
            CHECK(std::abs(number) <= most);
            CHECK(std::abs(number * unit - value) <= unit * (digits == 3 ? 0.5 : 0.503));
            largest = std::max(largest, std::abs(value));
            sum += number * unit;
          }
          CHECK(unit * most >= largest * (1 - 1e-6));
          CHECK(unit * most <= largest * (digits == 3 ? 2 : 1 + 1e-6));
          CHECK(split.sum()[static_cast<size_t>(r * 3 + b)] ==
                doctest::Approx(sum).epsilon(1e-6).scale(largest));
        }
      }
    }
  }
}

TEST_CASE("a row of gemm has the same bits alone as among any number of rows") {
  constexpr int64_t kRows = 35;
  for (const Table& table : tables()) {
    for (const Shape& shape : shapes()) {
      const TestMatrix w(shape.format, shape.n, shape.k, shape.group, true, 13);
      const std::vector<float> x = random_floats(kRows * shape.k, 17);
      for (const int64_t digits : digits_of(shape)) {
        std::vector<float> one_by_one;
        for (int64_t r = 0; r < kRows; ++r) {
          const std::vector<float> row =
              run(*table.ops, w.view(), x.data() + r * shape.k, 1, digits);
          one_by_one.insert(one_by_one.end(), row.begin(), row.end());
        }
        for (int64_t rows = 2; rows <= kRows; ++rows) {
          const std::vector<float> y = run(*table.ops, w.view(), x.data(), rows, digits);
          const std::vector<float> expected(one_by_one.begin(),
                                            one_by_one.begin() + rows * shape.n);
          CAPTURE(table.name);
          CAPTURE(format_name(shape.format));
          CAPTURE(shape.k);
          CAPTURE(rows);
          CAPTURE(digits);
          CHECK(same_bits(y, expected));
        }
      }
    }
  }
}

TEST_CASE(
    "gemm over a range of tiles writes those features, the same bits, "
    "and nothing else") {
  constexpr float kUntouched = 12345.0f;
  for (const Table& table : tables()) {
    const OpTable& ops = *table.ops;
    for (const Shape& shape :
         {Shape{WeightFormat::kF32, 150, 96, 0}, Shape{WeightFormat::kF16, 150, 97, 0},
          Shape{WeightFormat::kBf16, 150, 96, 0}, Shape{WeightFormat::kU4, 150, 128, 32},
          Shape{WeightFormat::kU8, 150, 128, 32}}) {
      const TestMatrix w(shape.format, shape.n, shape.k, shape.group, true, 19);
      for (const int64_t rows : {1, 3, 7}) {
        const std::vector<float> x = random_floats(rows * shape.k, 23);
        const std::vector<float> whole = run(ops, w.view(), x.data(), rows);
        const int64_t tiles = w.view().num_tiles();
        for (int64_t begin = 0; begin < tiles; ++begin) {
          for (int64_t end = begin + 1; end <= tiles; ++end) {
            const int64_t ldy = shape.n + 20;
            std::vector<float> y(static_cast<size_t>(rows * ldy), kUntouched);
            run_tiles(ops, w.view(), x.data(), rows, 3, begin, end, y.data(), ldy);
            std::vector<float> expected(y.size(), kUntouched);
            for (int64_t r = 0; r < rows; ++r) {
              for (int64_t n = begin * 16; n < std::min(end * 16, shape.n); ++n) {
                expected[static_cast<size_t>(r * ldy + n)] =
                    whole[static_cast<size_t>(r * shape.n + n)];
              }
            }
            CAPTURE(table.name);
            CAPTURE(format_name(shape.format));
            CAPTURE(begin);
            CAPTURE(end);
            CHECK(same_bits(y, expected));
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace lmrun::kernels::testing
