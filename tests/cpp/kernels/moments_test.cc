#include "kernels/moments.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/cpu_features.h"
#include "engine/moments.h"
#include "kernels/cpu/half.h"
#include "kernels/random_inputs.h"

namespace lmrun::kernels::testing {
namespace {

struct Variant {
  std::string name;
  AddMoments run;
};

std::vector<Variant> variants() {
  std::vector<Variant> all = {{"generic", reference::add_moments}};
#if defined(__x86_64__)
  const base::CpuFeatures cpu = base::detect_cpu_features();
  if (cpu.missing_for_avx512().empty() && cpu.avx512bf16) {
    all.push_back({"bf16", avx512::add_moments_bf16});
  }
#endif
  return all;
}

std::vector<uint16_t> random_bf16(int64_t count, uint32_t seed) {
  std::vector<uint16_t> all;
  for (const float value : random_floats(count, seed)) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, 4);
    all.push_back(static_cast<uint16_t>(bits >> 16));
  }
  return all;
}

struct Shape {
  int64_t tokens, m, n;
};

std::vector<float> run(const Variant& variant, const Shape& shape, const std::vector<uint16_t>& x,
                       const std::vector<uint16_t>& y, bool upper) {
  std::vector<float> sums(static_cast<size_t>(shape.m * shape.n), 0.5f);
  std::vector<uint32_t> scratch(static_cast<size_t>(moment_scratch(shape.m, shape.n)), 0x7FC07FC0);
  variant.run({x.data(), shape.m, y.data(), shape.n, shape.tokens, shape.m, shape.n, upper,
               sums.data(), shape.n, scratch.data()});
  return sums;
}

TEST_CASE("moments are the products of tokens, added to what was there, in fp32") {
  for (const Variant& variant : variants()) {
    for (const Shape& shape : {Shape{1, 1, 1}, Shape{2, 8, 32}, Shape{7, 33, 70},
                               Shape{256, 40, 31}, Shape{300, 65, 129}, Shape{513, 9, 48}}) {
      CAPTURE(variant.name);
      CAPTURE(shape.tokens);
      const auto x = random_bf16(shape.tokens * shape.m, 1);
      const auto y = random_bf16(shape.tokens * shape.n, 2);
      const std::vector<float> found = run(variant, shape, x, y, false);
      for (int64_t i = 0; i < shape.m; ++i) {
        for (int64_t j = 0; j < shape.n; ++j) {
          double sum = 0.5;
          double terms = 0.5;
          for (int64_t t = 0; t < shape.tokens; ++t) {
            const double term = static_cast<double>(reference::float_from_bf16(
                                    x[static_cast<size_t>(t * shape.m + i)])) *
                                reference::float_from_bf16(y[static_cast<size_t>(t * shape.n + j)]);
            sum += term;
            terms += std::abs(term);
          }
          const double error = std::abs(found[static_cast<size_t>(i * shape.n + j)] - sum);
          CHECK(error <= tolerance(WeightFormat::kBf16) * terms);
        }
      }
    }
  }
}

TEST_CASE(
    "of a tile on the diagonal the upper part is that of the whole tile, "
    "to the bit") {
  const Shape shape = {70, 77, 77};
  const auto x = random_bf16(shape.tokens * shape.m, 3);
  for (const Variant& variant : variants()) {
    CAPTURE(variant.name);
    const std::vector<float> whole = run(variant, shape, x, x, false);
    const std::vector<float> upper = run(variant, shape, x, x, true);
    for (int64_t i = 0; i < shape.m; ++i) {
      for (int64_t j = i; j < shape.n; ++j) {
        const auto place = static_cast<size_t>(i * shape.n + j);
        CHECK(upper[place] == whole[place]);
      }
    }
  }
}

TEST_CASE("moments of matrices that do not fit each other are refused") {
  const std::vector<uint16_t> x(12);
  std::vector<float> sums(9);
  CHECK_THROWS_WITH_AS(engine::add_moments({x.data(), 4, 3, 3, 1}, {x.data(), 4, 3, 3, 1},
                                           {sums.data(), 3, 2, 2, 1}, false),
                       "add_moments: expected sums [3, 3] of 4 tokens each, "
                       "got [3, 2] of 4 and 4."
                       " Give matrices that fit each other.",
                       base::InvalidArgument);
  CHECK_THROWS_WITH_AS(engine::add_moments({x.data(), 4, 3, 3, 1}, {x.data(), 4, 3, 1, 4},
                                           {sums.data(), 3, 3, 3, 1}, false),
                       "add_moments: right: expected contiguous rows, got "
                       "elements 4 apart. Copy it first.",
                       base::InvalidArgument);
}

}  // namespace
}  // namespace lmrun::kernels::testing
