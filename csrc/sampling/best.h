// The largest of many numbers.
#pragma once

#include <cstdint>
#include <vector>

namespace lmrun::sampling {

// Finds the best of a row; holds scratch, so one per thread.
class BestFinder {
 public:
  // Writes the indices of the `count` largest of `values` [n] to `ids`, largest first, ties by
  // lowest index. Needs 0 <= count <= n and finite values. One pass over the values where `count`
  // is small.
  void find(const float* values, int64_t n, int64_t count, int32_t* ids);

 private:
  void find_few(const float* values, int64_t n, int64_t count, int32_t* ids);

  std::vector<int32_t> order_;
  std::vector<float> best_;
};

}  // namespace lmrun::sampling
