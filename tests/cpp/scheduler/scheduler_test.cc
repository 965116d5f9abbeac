#include "scheduler/scheduler.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "base/check.h"

using lmrun::cache::BlockManager;
using lmrun::scheduler::Chunk;
using lmrun::scheduler::Limits;
using lmrun::scheduler::Scheduler;

namespace {

std::vector<int32_t> prompt_of(int64_t size, int32_t first = 0) {
  std::vector<int32_t> tokens(static_cast<size_t>(size));
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = first + static_cast<int32_t>(i);
  return tokens;
}

// Runs a step: sequences whose last token was computed get another, until they have `length`.
struct Driver {
  Scheduler scheduler;
  int64_t length;
  std::map<int64_t, int64_t> sizes;  // chunk of each sequence in the last step
  int64_t last_tokens = 0;

  Driver(const Limits& limits, BlockManager* blocks, int64_t length_in)
      : scheduler(limits, blocks), length(length_in) {}

  void step() {
    const std::vector<Chunk> chunks = scheduler.schedule();
    sizes.clear();
    last_tokens = 0;
    for (const Chunk& chunk : chunks) {
      CHECK(sizes.emplace(chunk.sequence->id, chunk.size).second);
      CHECK(chunk.begin == chunk.sequence->num_computed);
      last_tokens += chunk.size;
    }
    scheduler.check();
    scheduler.commit();
    for (const Chunk& chunk : chunks) {
      if (chunk.sequence->num_left() > 0) continue;
      if (chunk.sequence->num_tokens() == length) {
        scheduler.remove(chunk.sequence->id);
      } else {
        scheduler.append(chunk.sequence, 9);
      }
    }
    scheduler.check();
  }
};

}  // namespace

TEST_CASE("a long prompt under a small budget enters in pieces while every stream advances") {
  BlockManager blocks(100, 16);
  Driver driver({8, 64, false}, &blocks, 450);
  for (int64_t id = 0; id < 3; ++id) driver.scheduler.add(id, prompt_of(5), false);
  driver.step();
  driver.scheduler.add(9, prompt_of(400), false);
  int steps = 0;
  for (int64_t entered = 0; entered < 400; ++steps) {
    driver.step();
    CHECK(driver.last_tokens <= 64);
    for (int64_t id = 0; id < 3; ++id) CHECK(driver.sizes.at(id) == 1);
    entered += driver.sizes.at(9);
  }
  CHECK(steps == 7);  // 61 tokens a step beside three streams
}

TEST_CASE("requests start in the order they came and no more than max_num_seqs run") {
  BlockManager blocks(100, 16);
  Driver driver({2, 64, false}, &blocks, 8);
  for (int64_t id = 0; id < 4; ++id) driver.scheduler.add(id, prompt_of(6), false);
  driver.step();
  CHECK(driver.sizes == std::map<int64_t, int64_t>{{0, 6}, {1, 6}});
  CHECK(driver.scheduler.num_waiting() == 2);
  driver.step();
  driver.step();
  CHECK(driver.scheduler.num_running() == 0);
  driver.step();
  CHECK(driver.sizes == std::map<int64_t, int64_t>{{2, 6}, {3, 6}});
}

TEST_CASE("when blocks run out the latest arrival gives way and later starts over") {
  BlockManager blocks(4, 16);
  Driver driver({4, 64, false}, &blocks, 50);
  driver.scheduler.add(0, prompt_of(31), false);
  driver.scheduler.add(1, prompt_of(31), false);
  driver.step();
  driver.step();
  CHECK(driver.scheduler.num_running() == 2);
  driver.step();  // both need a third block: 33 tokens
  CHECK(driver.sizes == std::map<int64_t, int64_t>{{0, 1}});
  CHECK(driver.scheduler.num_preemptions() == 1);
  CHECK(driver.scheduler.num_waiting() == 1);
  while (driver.scheduler.has_work()) driver.step();
  CHECK(blocks.num_used() == 0);
}

TEST_CASE("a sequence that fills the whole pool runs to its end") {
  BlockManager blocks(2, 16);
  Driver driver({4, 64, true}, &blocks, 32);
  driver.scheduler.add(0, prompt_of(20), true);
  driver.scheduler.add(1, prompt_of(31), true);
  while (driver.scheduler.has_work()) driver.step();
  CHECK(blocks.num_used() == 0);
}

TEST_CASE("an equal prompt reuses full blocks and computes at least one token") {
  BlockManager blocks(100, 16);
  Driver driver({4, 64, true}, &blocks, 60);
  driver.scheduler.add(0, prompt_of(48), true);
  driver.step();
  driver.scheduler.add(1, prompt_of(48), true);
  driver.scheduler.add(2, prompt_of(50), true);
  driver.scheduler.add(3, prompt_of(48), false);
  driver.step();
  CHECK(driver.sizes.at(1) == 16);
  CHECK(driver.sizes.at(2) == 2);
  CHECK(driver.sizes.at(3) == 45);  // what the budget leaves: this one must not reuse
}

TEST_CASE("a prefix of a finished sequence is found, and nothing where caching is off") {
  for (const bool caching : {true, false}) {
    BlockManager blocks(100, 16);
    Driver driver({4, 64, caching}, &blocks, 40);
    driver.scheduler.add(0, prompt_of(33), true);
    while (driver.scheduler.has_work()) driver.step();
    CHECK(blocks.num_used() == 0);
    driver.scheduler.add(1, prompt_of(34), true);
    driver.step();
    CHECK(driver.sizes.at(1) == (caching ? 2 : 34));
  }
}

TEST_CASE("no more is taken from the prefix cache than a sequence allows") {
  for (const auto& [most_reused, computed] :
       {std::pair<int64_t, int64_t>{15, 50}, {16, 34}, {31, 34}, {32, 18}, {48, 2}, {1000, 2}}) {
    BlockManager blocks(100, 16);
    Driver driver({4, 64, true}, &blocks, 60);
    driver.scheduler.add(0, prompt_of(50), true);
    while (driver.scheduler.has_work()) driver.step();
    driver.scheduler.add(1, prompt_of(50), true, most_reused);
    driver.step();
    CHECK(driver.sizes.at(1) == computed);
  }
}

TEST_CASE("a removed sequence frees its blocks, also between schedule and commit") {
  BlockManager blocks(10, 16);
  Scheduler scheduler({4, 64, true}, &blocks);
  scheduler.add(0, prompt_of(20), true);
  scheduler.add(1, prompt_of(20), true);
  scheduler.schedule();
  CHECK(scheduler.remove(0));
  CHECK_FALSE(scheduler.remove(0));
  scheduler.commit();
  scheduler.check();
  CHECK(blocks.num_used() == 2);
  scheduler.remove(1);
  CHECK(blocks.num_used() == 0);
  CHECK(scheduler.schedule().empty());
}

TEST_CASE("limits that starve a stream are refused") {
  BlockManager blocks(10, 16);
  CHECK_THROWS_WITH_AS(Scheduler({8, 7, false}, &blocks),
                       "max_batch_tokens=7: expected at least max_num_seqs (8): a step takes one "
                       "token of every running sequence.",
                       lmrun::base::InvalidArgument);
  CHECK_THROWS_WITH_AS(Scheduler({0, 7, false}, &blocks), "max_num_seqs=0: expected at least 1.",
                       lmrun::base::InvalidArgument);
}

TEST_CASE("random requests, aborts and small pools break no invariant and all end") {
  std::mt19937 random(7);
  const auto draw = [&random](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  for (int round = 0; round < 60; ++round) {
    BlockManager blocks(draw(4, 12), 16);
    const int64_t length = std::min<int64_t>(blocks.num_blocks() * 16, draw(20, 120));
    const int64_t max_num_seqs = draw(1, 6);
    Driver driver({max_num_seqs, draw(max_num_seqs, 80), round % 2 == 0}, &blocks, length);
    int64_t next_id = 0;
    for (int step = 0; step < 150; ++step) {
      if (draw(0, 3) == 0) {
        // Few different first tokens, so that prefixes meet.
        driver.scheduler.add(next_id++,
                             prompt_of(draw(1, length - 1), static_cast<int32_t>(draw(0, 2))),
                             draw(0, 4) > 0);
      }
      if (next_id > 0 && draw(0, 9) == 0) driver.scheduler.remove(draw(0, next_id - 1));
      driver.step();
    }
    for (int step = 0; step < 20000 && driver.scheduler.has_work(); ++step) driver.step();
    CHECK_FALSE(driver.scheduler.has_work());
    CHECK(blocks.num_used() == 0);
  }
}
