#include "base/peak_flops.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

#include "base/check.h"

namespace lmrun::base {
namespace {

constexpr int kLanes = 16;
constexpr int kChains = 16;           // of vectors: latency 4 times two units, and to spare
constexpr int64_t kRounds = 1 << 18;  // about 2 ms: short enough to be left alone once
constexpr double kSeconds = 0.3;

// The thread sanitizer is not there yet when the loader picks a clone.
#if defined(LMRUN_X86) && !defined(__SANITIZE_THREAD__)
#define LMRUN_WIDEST_FMA \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define LMRUN_WIDEST_FMA
#endif

// The chains converge to 1 and stay finite.
LMRUN_WIDEST_FMA float run_chains(float factor, float summand) {
  float chains[kChains][kLanes];
  for (int c = 0; c < kChains; ++c) {
    for (int i = 0; i < kLanes; ++i) chains[c][i] = static_cast<float>(c + i);
  }
  for (int64_t round = 0; round < kRounds; ++round) {
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) {
#pragma GCC unroll 1
      for (int i = 0; i < kLanes; ++i) {
        chains[c][i] = __builtin_fmaf(chains[c][i], factor, summand);
      }
    }
  }
  float sum = 0;
  for (const auto& chain : chains) {
    for (const float value : chain) sum += value;
  }
  return sum;
}

}  // namespace

double measure_flops(int threads) {
  LMRUN_CHECK(threads >= 1, "threads: expected at least 1, got " << threads);
  constexpr double kOperations = 2.0 * kChains * kLanes * kRounds;
  double best = 0;
  std::vector<float> sums(static_cast<size_t>(threads));
  const auto begin = std::chrono::steady_clock::now();
  std::chrono::duration<double> spent{0};
  while (spent.count() < kSeconds) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> workers;
    for (int i = 0; i < threads; ++i) {
      workers.emplace_back([&, i] { sums[static_cast<size_t>(i)] = run_chains(0.5F, 0.5F); });
    }
    for (std::thread& worker : workers) worker.join();
    const auto end = std::chrono::steady_clock::now();
    const std::chrono::duration<double> seconds = end - start;
    spent = end - begin;
    best = std::max(best, kOperations * threads / seconds.count());
  }
  for (const float sum : sums) LMRUN_CHECK(std::isfinite(sum), "flops: not finite");
  return best;
}

}  // namespace lmrun::base
