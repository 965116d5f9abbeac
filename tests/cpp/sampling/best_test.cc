#include "sampling/best.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

using lmrun::sampling::BestFinder;

namespace {

std::vector<int32_t> best(BestFinder* finder, const std::vector<float>& values, int64_t count) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  finder->find(values.data(), static_cast<int64_t>(values.size()), count, ids.data());
  return ids;
}

std::vector<int32_t> sorted(const std::vector<float>& values, int64_t count) {
  std::vector<int32_t> ids(values.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&values](int32_t a, int32_t b) {
    return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
  });
  ids.resize(static_cast<size_t>(count));
  return ids;
}

}  // namespace

TEST_CASE("the best are those of a stable sort, few or many, with and without ties") {
  BestFinder finder;  // one for all: what it keeps must not show
  std::mt19937 random(7);
  for (const int64_t n : {1, 2, 63, 64, 65, 129, 1000}) {
    for (const uint32_t num_values : {1U, 2U, 9U, 1U << 20}) {
      std::vector<float> values(static_cast<size_t>(n));
      for (float& value : values) value = static_cast<float>(random() % num_values) - 4;
      for (const int64_t count : {0L, 1L, 2L, 20L, 127L, 128L, 129L, 500L, n}) {
        if (count > n) continue;
        CAPTURE(n);
        CAPTURE(num_values);
        CAPTURE(count);
        CHECK(best(&finder, values, count) == sorted(values, count));
      }
    }
  }
}

TEST_CASE("values that only rise or only fall are no special case") {
  BestFinder finder;
  std::vector<float> rising(3000);
  std::iota(rising.begin(), rising.end(), -7.0F);
  CHECK(best(&finder, rising, 3) == std::vector<int32_t>{2999, 2998, 2997});
  std::reverse(rising.begin(), rising.end());
  CHECK(best(&finder, rising, 3) == std::vector<int32_t>{0, 1, 2});
}
