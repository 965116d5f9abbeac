#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/random_inputs.h"

namespace lmrun::kernels::testing {
namespace {

constexpr double kRelative = 1e-6;

double relative_error(double got, double expected) {
  return std::abs(got - expected) / std::max(std::abs(expected), 1e-30);
}

TEST_CASE("embed returns rows of the stored matrix exactly") {
  for (const Isa isa : supported_isas()) {
    for (const WeightFormat format :
         {WeightFormat::kF32, WeightFormat::kF16, WeightFormat::kBf16}) {
      for (const int64_t k : {1, 7, 16, 33, 64, 100}) {
        const TestMatrix table(format, 37, k, 0, false, 3);
        const std::vector<int32_t> ids = {0, 36, 15, 16, 16, 31};
        std::vector<float> y(ids.size() * static_cast<size_t>(k));
        op_table(isa).embed(table.view(), ids.data(), static_cast<int64_t>(ids.size()), y.data());
        for (size_t i = 0; i < y.size(); ++i) {
          const auto row = static_cast<int64_t>(i) / k;
          CAPTURE(format_name(format));
          CAPTURE(i);
          CHECK(y[i] == table.value(ids[static_cast<size_t>(row)], static_cast<int64_t>(i) % k));
        }
      }
    }
  }
}

TEST_CASE(
    "rms_norm agrees with float64, in place too, and rows do not matter "
    "to each other") {
  for (const Isa isa : supported_isas()) {
    for (const int64_t n : {1, 8, 15, 64, 100, 192, 2048}) {
      constexpr int64_t kRows = 3;
      const std::vector<float> x = random_floats(kRows * n, 5, 3.0f);
      const std::vector<float> weight = random_floats(n, 6);
      std::vector<float> y = x;
      op_table(isa).rms_norm(y.data(), weight.data(), 1e-5f, kRows, n, y.data());
      for (int64_t r = 0; r < kRows; ++r) {
        double squares = 0;
        for (int64_t i = 0; i < n; ++i) squares += std::pow(x[static_cast<size_t>(r * n + i)], 2);
        const double factor = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-5f);
        for (int64_t i = 0; i < n; ++i) {
          const auto at = static_cast<size_t>(r * n + i);
          const double expected = x[at] * factor * weight[static_cast<size_t>(i)];
          CHECK(relative_error(y[at], expected) <= kRelative);
        }
        std::vector<float> alone(static_cast<size_t>(n));
        op_table(isa).rms_norm(x.data() + r * n, weight.data(), 1e-5f, 1, n, alone.data());
        CHECK(same_bits(alone, {y.begin() + r * n, y.begin() + (r + 1) * n}));
      }
    }
  }
}

TEST_CASE("add adds") {
  for (const Isa isa : supported_isas()) {
    for (const int64_t n : {1, 15, 16, 33}) {
      const std::vector<float> x = random_floats(n, 1);
      const std::vector<float> before = random_floats(n, 2);
      std::vector<float> y = before;
      op_table(isa).add(x.data(), n, y.data());
      for (size_t i = 0; i < y.size(); ++i) CHECK(y[i] == before[i] + x[i]);
    }
  }
}

TEST_CASE("silu_mul agrees with float64 from tiny to huge gates") {
  for (const Isa isa : supported_isas()) {
    for (const int64_t inter : {1, 15, 172, 512}) {
      constexpr int64_t kRows = 2;
      std::vector<float> x = random_floats(kRows * 2 * inter, 8, 20.0f);
      x[0] = -1e4f;
      if (inter > 8) {
        x[1] = 1e4f;
        x[2] = 0.0f;
        x[3] = -80.0f;
        x[4] = 1e-8f;
      }
      std::vector<float> y(static_cast<size_t>(kRows * inter));
      op_table(isa).silu_mul(x.data(), kRows, inter, y.data());
      for (int64_t r = 0; r < kRows; ++r) {
        for (int64_t i = 0; i < inter; ++i) {
          const double gate = x[static_cast<size_t>(r * 2 * inter + i)];
          const double up = x[static_cast<size_t>((r * 2 + 1) * inter + i)];
          const double expected = gate / (1 + std::exp(-gate)) * up;
          const double got = y[static_cast<size_t>(r * inter + i)];
          CAPTURE(gate);
          CHECK(std::abs(got - expected) <= kRelative * std::abs(expected) + 1e-35);
        }
      }
    }
  }
}

TEST_CASE("rope rotates the pairs (i, i + D/2) by the angle of the position") {
  for (const Isa isa : supported_isas()) {
    for (const int64_t dim : {8, 16, 32, 64, 128}) {
      constexpr int64_t kHeads = 3;
      const int64_t half = dim / 2;
      const int64_t stride = kHeads * dim + 5;  // other things lie between the rows
      const std::vector<int32_t> positions = {0, 40, 7};
      const auto rows = static_cast<int64_t>(positions.size());
      std::vector<float> cos(static_cast<size_t>(41 * half));
      std::vector<float> sin(cos.size());
      for (size_t i = 0; i < cos.size(); ++i) {
        cos[i] = std::cos(static_cast<float>(i) * 0.1f);
        sin[i] = std::sin(static_cast<float>(i) * 0.1f);
      }
      const std::vector<float> before = random_floats(rows * stride, 9);
      std::vector<float> x = before;
      op_table(isa).rope(x.data(), stride, positions.data(), rows, kHeads, dim, cos.data(),
                         sin.data());
      for (size_t at = 0; at < x.size(); ++at) {
        const auto r = static_cast<int64_t>(at) / stride;
        const auto in_row = static_cast<int64_t>(at) % stride;
        if (in_row >= kHeads * dim) {
          CHECK(x[at] == before[at]);
          continue;
        }
        const int64_t d = in_row % dim;
        const auto angle = static_cast<size_t>(positions[static_cast<size_t>(r)] * half + d % half);
        const double a = before[d < half ? at : at - static_cast<size_t>(half)];
        const double b = before[d < half ? at + static_cast<size_t>(half) : at];
        const double expected =
            d < half ? a * cos[angle] - b * sin[angle] : b * cos[angle] + a * sin[angle];
        CHECK(std::abs(x[at] - expected) <= 2e-7 * (std::abs(a) + std::abs(b)));
      }
    }
  }
}

TEST_CASE("max_and_log_sum_exp agrees with float64") {
  for (const Isa isa : supported_isas()) {
    for (const int64_t n : {1, 2, 15, 16, 17, 4096, 32000}) {
      std::vector<float> x = random_floats(n, 12, 6.0f);
      if (n == 17) x[3] = -INFINITY;  // a masked token
      if (n == 16) x[3] = 3e38f;
      const double max = *std::max_element(x.begin(), x.end());
      double sum = 0;
      for (const float value : x) sum += std::exp(value - max);
      float got_max = 0;
      float got = 0;
      op_table(isa).max_and_log_sum_exp(x.data(), n, &got_max, &got);
      CHECK(got_max == max);
      CHECK(std::abs(got - (max + std::log(sum))) <= 1e-6 * (1 + std::abs(max)));
    }
  }
}

}  // namespace
}  // namespace lmrun::kernels::testing
