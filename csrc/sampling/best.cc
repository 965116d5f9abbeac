#include "sampling/best.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

namespace lmrun::sampling {
namespace {

// Up to here a sorted list of the best so far is kept; past it, its moves cost more than a partial
// sort of all.
constexpr int64_t kFew = 128;
// Values looked at together: the compiler compares them with vectors.
constexpr int64_t kBlock = 64;

}  // namespace

void BestFinder::find(const float* values, int64_t n, int64_t count, int32_t* ids) {
  if (count == 0) return;
  if (count <= kFew) {
    find_few(values, n, count, ids);
    return;
  }
  order_.resize(static_cast<size_t>(n));
  std::iota(order_.begin(), order_.end(), 0);
  const auto is_better = [values](int32_t a, int32_t b) {
    return values[a] != values[b] ? values[a] > values[b] : a < b;
  };
  const auto middle = order_.begin() + count;
  std::nth_element(order_.begin(), middle - 1, order_.end(), is_better);
  std::sort(order_.begin(), middle, is_better);
  std::copy(order_.begin(), middle, ids);
}

void BestFinder::find_few(const float* values, int64_t n, int64_t count, int32_t* ids) {
  best_.resize(static_cast<size_t>(count));
  float* best = best_.data();
  int64_t size = 0;
  // Goes behind all that are as large: those have lower indices.
  const auto insert = [&](int64_t index) {
    const float value = values[index];
    int64_t place = size < count ? size++ : count - 1;
    for (; place > 0 && best[place - 1] < value; --place) {
      best[place] = best[place - 1];
      ids[place] = ids[place - 1];
    }
    best[place] = value;
    ids[place] = static_cast<int32_t>(index);
  };
  int64_t i = 0;
  for (; i < count; ++i) insert(i);
  while (i < n) {
    const int64_t end = std::min(i + kBlock, n);
    const float least = best[count - 1];
    int32_t num_better = 0;
    for (int64_t j = i; j < end; ++j) num_better += values[j] > least ? 1 : 0;
    if (num_better > 0) {
      for (int64_t j = i; j < end; ++j) {
        if (values[j] > best[count - 1]) insert(j);
      }
    }
    i = end;
  }
}

}  // namespace lmrun::sampling
