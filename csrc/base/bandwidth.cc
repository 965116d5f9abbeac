#include "base/bandwidth.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
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
// Lines of a stream that are read before the next stream's: a page's worth would starve the others.
constexpr size_t kUnroll = 4;
// Other work on the machine only ever slows a pass, and a short one is more often left alone.
constexpr int kTrialPasses = 4;                  // of each way
constexpr int kBestPasses = 48;                  // of the way that was best
constexpr size_t kPassBytes = size_t{64} << 20;  // of a thread

// How a part is read: in so many streams side by side, each asking for bytes so far ahead (0: the
// hardware's own prefetch alone). Which is best differs between CPUs and with what else they do.
struct Way {
  size_t streams;
  size_t ahead;
};
constexpr Way kWays[] = {{1, 0},    {1, 1024}, {1, 4096}, {2, 0}, {2, 1024}, {2, 4096}, {4, 0},
                         {4, 1024}, {4, 2048}, {4, 8192}, {8, 0}, {8, 1024}, {8, 4096}};

using Line = uint64_t __attribute__((vector_size(kLine)));

// The thread sanitizer is not there yet when the loader picks a clone.
#if defined(LMRUN_X86) && !defined(__SANITIZE_THREAD__)
#define LMRUN_WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define LMRUN_WIDEST
#endif

// Sum of the words of [begin, begin + bytes); a stream's bytes are a multiple of kUnroll lines.
LMRUN_WIDEST uint64_t read_all(const std::byte* begin, size_t bytes, size_t streams, size_t ahead) {
  Line sums[kUnroll] = {};
  const size_t stream_bytes = bytes / streams;
  for (size_t at = 0; at < stream_bytes; at += kUnroll * kLine) {
    const std::byte* from = begin + at;
    for (size_t stream = 0; stream < streams; ++stream, from += stream_bytes) {
      if (ahead != 0) {
        for (size_t i = 0; i < kUnroll; ++i) __builtin_prefetch(from + ahead + i * kLine);
      }
      for (size_t i = 0; i < kUnroll; ++i) {
        sums[i] += *reinterpret_cast<const Line*>(from + i * kLine);
      }
    }
  }
  uint64_t sum = 0;
  for (const Line& part : sums) {
    for (size_t i = 0; i < kLine / sizeof(uint64_t); ++i) sum += part[i];
  }
  return sum;
}

// Threads that read their parts at the same time, pass after pass, without being made anew.
class Readers {
 public:
  Readers(const std::byte* begin, size_t part, int threads)
      : begin_(begin), part_(part), in_a_pass_(std::min(part, kPassBytes)), sums_(threads) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
  }
  ~Readers() {
    is_ending_ = true;
    begun_.fetch_add(1);
    for (std::thread& worker : workers_) worker.join();
  }
  Readers(const Readers&) = delete;
  Readers& operator=(const Readers&) = delete;

  // Bytes per second of one pass; the calling thread is one of the readers.
  double pass(const Way& way) {
    way_ = way;
    at_ = next_++ % (part_ / in_a_pass_) * in_a_pass_;
    done_ = 0;
    const auto start = std::chrono::steady_clock::now();
    begun_.fetch_add(1);
    read(0);
    while (done_.load() < static_cast<int>(workers_.size())) std::this_thread::yield();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    // The sums are what keeps the reads: every byte is 1, so each word is the same.
    for (const uint64_t sum : sums_) {
      LMRUN_CHECK(sum == sums_[0], "read bandwidth: memory did not read back");
    }
    return static_cast<double>(in_a_pass_ * sums_.size()) / seconds.count();
  }

 private:
  void read(int thread) {
    const std::byte* from = begin_ + static_cast<size_t>(thread) * part_ + at_;
    sums_[static_cast<size_t>(thread)] = read_all(from, in_a_pass_, way_.streams, way_.ahead);
  }

  void work(int thread) {
    for (int seen = 0;; ++seen) {
      while (begun_.load() == seen) std::this_thread::yield();
      if (is_ending_) return;
      read(thread);
      done_.fetch_add(1);
    }
  }

  const std::byte* begin_;
  size_t part_;
  size_t in_a_pass_;
  Way way_{1, 0};
  size_t at_ = 0;
  size_t next_ = 0;
  std::atomic<int> begun_ = 0;
  std::atomic<int> done_ = 0;
  std::atomic<bool> is_ending_ = false;
  std::vector<uint64_t> sums_;
  std::vector<std::thread> workers_;
};

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
  {
    Readers readers(begin, part, threads);
    Way best_way = kWays[0];
    for (const Way& way : kWays) {
      for (int pass = 0; pass < kTrialPasses; ++pass) {
        const double rate = readers.pass(way);
        if (rate > best) best_way = way;
        best = std::max(best, rate);
      }
    }
    for (int pass = 0; pass < kBestPasses; ++pass) best = std::max(best, readers.pass(best_way));
  }
  munmap(memory, total + kHugePage);
  return best;
}

}  // namespace lmrun::base
