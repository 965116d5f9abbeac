#include "base/bandwidth.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "base/check.h"

namespace lmrun::base {
namespace {

constexpr size_t kLine = 64;
constexpr size_t kHugePage = 2u << 20;
// Other work on the machine only ever slows a pass, and a short one is more often left alone.
constexpr int kPasses = 64;
constexpr size_t kPassBytes = size_t{64} << 20;  // of a thread

using Line = uint64_t __attribute__((vector_size(kLine)));

#if defined(LMRUN_X86)
#define LMRUN_WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define LMRUN_WIDEST
#endif

// Sum of the words of [begin, begin + bytes); bytes is a multiple of 4 lines. One stream without
// prefetch: on Zen 4 65 GB/s with 2 threads, against 57 with 3 to 7 streams and prefetch.
LMRUN_WIDEST uint64_t read_all(const std::byte* begin, size_t bytes) {
  constexpr size_t kUnroll = 4;
  Line sums[kUnroll] = {};
  for (size_t at = 0; at < bytes; at += kUnroll * kLine) {
    for (size_t i = 0; i < kUnroll; ++i) {
      sums[i] += *reinterpret_cast<const Line*>(begin + at + i * kLine);
    }
  }
  uint64_t sum = 0;
  for (const Line& part : sums) {
    for (size_t i = 0; i < kLine / sizeof(uint64_t); ++i) sum += part[i];
  }
  return sum;
}

}  // namespace

double measure_read_bandwidth(int threads, size_t bytes) {
  LMRUN_CHECK(threads >= 1, "threads: expected at least 1, got " << threads);
  const size_t part = std::max(bytes / threads / kHugePage, size_t{1}) * kHugePage;
  const size_t total = part * threads;
  void* memory =
      mmap(nullptr, total + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  LMRUN_CHECK(memory != MAP_FAILED, "read bandwidth: cannot map " << total << " bytes");
  const auto address = reinterpret_cast<uintptr_t>(memory);
  auto* begin = reinterpret_cast<std::byte*>((address + kHugePage - 1) / kHugePage * kHugePage);
  madvise(begin, total, MADV_HUGEPAGE);
  std::memset(begin, 1, total);

  double best = 0;
  std::vector<uint64_t> sums(threads);
  const size_t in_a_pass = std::min(part, kPassBytes);
  for (int pass = 0; pass < kPasses; ++pass) {
    const size_t at = pass % (part / in_a_pass) * in_a_pass;
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> workers;
    for (int i = 0; i < threads; ++i) {
      workers.emplace_back([&, i] { sums[i] = read_all(begin + i * part + at, in_a_pass); });
    }
    for (std::thread& worker : workers) worker.join();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(in_a_pass * threads) / seconds.count());
  }
  munmap(memory, total + kHugePage);
  // The sums are what keeps the reads: every byte is 1, so each word is the same.
  for (const uint64_t sum : sums) {
    LMRUN_CHECK(sum == sums[0], "read bandwidth: memory did not read back");
  }
  return best;
}

}  // namespace lmrun::base
