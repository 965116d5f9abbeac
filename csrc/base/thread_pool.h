// Threads that split a loop. The caller takes part; between loops the others spin for a moment and
// then sleep, so that an idle engine burns no CPU.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace lmrun::base {

class ThreadPool {
 public:
  // `num_threads` counts the caller; at least 1. Throws Error where the system has not as many.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(begin, end, thread) for disjoint ranges of at most `chunk` that cover [0, n), and
  // returns when all are done. `thread` is in [0, num_threads()); a thread runs one range at a
  // time. A thread that is slow to wake finds its share taken by the others. The first exception is
  // thrown again here, and ranges not begun are dropped. One caller at a time; do not nest.
  template <typename Body>
  void parallel_for(int64_t n, int64_t chunk, Body&& body) {
    if (n <= 0) return;
    if (workers_.empty() || n <= chunk) {
      for (int64_t begin = 0; begin < n; begin += chunk) {
        body(begin, begin + chunk < n ? begin + chunk : n, 0);
      }
      return;
    }
    using Plain = std::remove_reference_t<Body>;
    run(n, chunk, const_cast<void*>(static_cast<const void*>(&body)),
        [](void* context, int64_t begin, int64_t end, int thread) {
          (*static_cast<Plain*>(context))(begin, end, thread);
        });
  }

 private:
  using Call = void (*)(void* context, int64_t begin, int64_t end, int thread);

  void run(int64_t n, int64_t chunk, void* context, Call call);
  void take_ranges(int thread);
  void worker_loop(int thread);
  void stop();

  // state_: the loop's number, whether threads may still join it, how many workers are in it.
  static constexpr uint32_t kActiveMask = (1U << 12) - 1;
  static constexpr uint32_t kOpen = 1U << 12;
  static constexpr uint32_t kStop = 1U << 13;
  static constexpr uint32_t kNumber = 1U << 14;

  alignas(64) std::atomic<uint32_t> state_{0};
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) int64_t n_ = 0;
  int64_t chunk_ = 1;
  void* context_ = nullptr;
  Call call_ = nullptr;
  std::mutex error_mutex_;
  std::exception_ptr error_;
  std::vector<std::thread> workers_;
};

}  // namespace lmrun::base
