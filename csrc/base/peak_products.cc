#include "base/peak_products.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "base/check.h"

#if defined(LMRUN_X86)
// GCC 12 takes the deliberately undefined registers of its own header for a mistake (its bug
// 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif

namespace lmrun::base {
namespace {

constexpr int kChains = 16;           // latency 5 times two units, and to spare
constexpr int64_t kRounds = 1 << 18;  // about 2 ms: short enough to be left alone once
constexpr double kSeconds = 0.3;

#if defined(LMRUN_X86)

// Sums of 16 chains of four products of bytes in each lane; the inputs are opaque to the compiler.
__attribute__((target("avx512f,avx512bw,avx512vnni"))) int64_t run_int8() {
  __m512i chains[kChains];
  for (auto& chain : chains) chain = _mm512_setzero_si512();
  __m512i codes = _mm512_set1_epi8(1);
  __m512i digits = _mm512_set1_epi8(1);
  for (int64_t round = 0; round < kRounds; ++round) {
    asm volatile("" : "+v"(codes), "+v"(digits));
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) chains[c] = _mm512_dpbusd_epi32(chains[c], codes, digits);
  }
  int64_t sum = 0;
  for (const auto& chain : chains) sum += _mm512_reduce_add_epi32(chain);
  return sum;
}

__attribute__((target("avx512f,avx512bw,avx512bf16"))) int64_t run_bf16() {
  __m512 chains[kChains];
  for (auto& chain : chains) chain = _mm512_setzero_ps();
  __m512i pairs = _mm512_set1_epi16(0);
  for (int64_t round = 0; round < kRounds; ++round) {
    asm volatile("" : "+v"(pairs));
    const auto values = reinterpret_cast<__m512bh>(pairs);
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) chains[c] = _mm512_dpbf16_ps(chains[c], values, values);
  }
  float sum = 0;
  for (const auto& chain : chains) sum += _mm512_reduce_add_ps(chain);
  return static_cast<int64_t>(sum);
}

#endif

struct Kind {
  int64_t (*run)();
  int64_t sum;        // that a run must come to
  double operations;  // of an instruction
};

// Null where the CPU lacks it.
Kind kind_of(const std::string& name) {
#if defined(LMRUN_X86)
  if (name == "int8") {
    const bool is_here = __builtin_cpu_supports("avx512vnni") != 0;
    return {is_here ? &run_int8 : nullptr, kRounds * kChains * 64, 128};
  }
  if (name == "bf16") {
    const bool is_here = __builtin_cpu_supports("avx512bf16") != 0;
    return {is_here ? &run_bf16 : nullptr, 0, 64};
  }
#else
  if (name == "int8" || name == "bf16") return {nullptr, 0, 0};
#endif
  throw InvalidArgument("products of " + name + ": expected int8 or bf16.");
}

}  // namespace

double measure_products(const std::string& name, int threads) {
  LMRUN_CHECK(threads >= 1, "threads: expected at least 1, got " << threads);
  const Kind kind = kind_of(name);
  if (kind.run == nullptr) return 0;
  double best = 0;
  std::vector<int64_t> sums(static_cast<size_t>(threads));
  const auto begin = std::chrono::steady_clock::now();
  std::chrono::duration<double> spent{0};
  while (spent.count() < kSeconds) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> workers;
    for (int i = 0; i < threads; ++i) {
      workers.emplace_back([&, i] { sums[static_cast<size_t>(i)] = kind.run(); });
    }
    for (std::thread& worker : workers) worker.join();
    const auto end = std::chrono::steady_clock::now();
    spent = end - begin;
    const double instructions = static_cast<double>(kRounds) * kChains * threads;
    const std::chrono::duration<double> seconds = end - start;
    best = std::max(best, kind.operations * instructions / seconds.count());
  }
  for (const int64_t sum : sums) {
    LMRUN_CHECK(sum == kind.sum,
                "products of " << name << ": expected " << kind.sum << ", got " << sum);
  }
  return best;
}

}  // namespace lmrun::base
