#include "base/thread_pool.h"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <atomic>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/check.h"

using lmrun::base::ThreadPool;

TEST_CASE("every index is visited once, whatever the chunk and the number of threads") {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (const int64_t n : {0, 1, 2, 7, 1000}) {
      for (const int64_t chunk : {1, 3, 1000, 5000}) {
        std::vector<std::atomic<int>> visits(static_cast<size_t>(n));
        pool.parallel_for(n, chunk, [&](int64_t begin, int64_t end, int thread) {
          CHECK(end - begin <= chunk);
          CHECK(thread < threads);
          for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
        });
        for (const auto& count : visits) REQUIRE(count == 1);
      }
    }
  }
}

TEST_CASE("many short loops in a row lose no index") {
  ThreadPool pool(3);
  std::atomic<int64_t> sum{0};
  for (int loop = 0; loop < 20000; ++loop) {
    pool.parallel_for(6, 1, [&](int64_t begin, int64_t, int) { sum += begin; });
  }
  CHECK(sum == 20000 * 15);
}

TEST_CASE("a thread runs one range at a time") {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> inside(4);
  pool.parallel_for(2000, 1, [&](int64_t, int64_t, int thread) {
    CHECK(++inside[static_cast<size_t>(thread)] == 1);
    --inside[static_cast<size_t>(thread)];
  });
}

TEST_CASE("the exception of a range reaches the caller, and the pool lives on") {
  ThreadPool pool(2);
  for (int loop = 0; loop < 50; ++loop) {
    CHECK_THROWS_WITH_AS(pool.parallel_for(100, 1,
                                           [](int64_t begin, int64_t, int) {
                                             if (begin == 13) throw std::runtime_error("thirteen");
                                           }),
                         "thirteen", std::runtime_error);
    std::atomic<int> count{0};
    pool.parallel_for(10, 1, [&](int64_t, int64_t, int) { ++count; });
    CHECK(count == 10);
  }
}

TEST_CASE("a number of threads out of range is refused") {
  CHECK_THROWS_WITH_AS(ThreadPool(0), "threads=0: expected 1 to 1024.",
                       lmrun::base::InvalidArgument);
}

// A sanitizer maps far more addresses than any limit would leave it.
#if !defined(__SANITIZE_ADDRESS__)
TEST_CASE("threads that the system does not give are an error that names how many it gave") {
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_AS, &before) == 0);
  uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  rlimit tight = before;
  tight.rlim_cur = pages * 4096 + (uint64_t{256} << 20);  // room for some stacks of 8 MiB
  REQUIRE(setrlimit(RLIMIT_AS, &tight) == 0);
  std::string message;
  try {
    ThreadPool pool(1000);
  } catch (const lmrun::base::Error& error) {
    message = error.what();
  }
  REQUIRE(setrlimit(RLIMIT_AS, &before) == 0);
  CHECK(message.starts_with("threads=1000: the system gave "));
  CHECK(message.ends_with(". Ask for fewer."));
}
#endif
