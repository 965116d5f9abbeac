#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <vector>

#include "engine/engine.h"
#include "engine/small_engine.h"

using lmrun::base::InvalidArgument;
using lmrun::engine::Engine;
using lmrun::engine::FinishReason;
using lmrun::engine::Output;
using lmrun::engine::ScoreDetail;
using lmrun::engine::Scores;
using lmrun::engine::Settings;
using lmrun::testing::greedy;
using lmrun::testing::Kind;
using lmrun::testing::kKinds;
using lmrun::testing::Model;
using lmrun::testing::prompt_of;
using lmrun::testing::Stored;
using lmrun::testing::Tokens;

namespace {

// Steps until the score of `id` is there.
Scores scores_of(Engine* engine, int64_t id) {
  std::optional<Scores> scores;
  while (engine->has_work()) {
    for (Output& output : engine->step()) {
      if (output.id == id) scores = std::move(output.scores);
    }
    engine->check();
  }
  REQUIRE(scores);
  return std::move(*scores);
}

template <typename T>
std::vector<T> tail_of(const std::vector<T>& values, size_t skipped) {
  return {values.begin() + static_cast<std::ptrdiff_t>(skipped), values.end()};
}

// Every number of a score is a difference of a logit and the log-sum-exp, to the bit.
void check_against_logits(const Scores& scores, const std::vector<float>& logits,
                          const Tokens& tokens, const char* isa) {
  constexpr size_t kVocab = 40;
  const auto& ops = lmrun::kernels::op_table(lmrun::kernels::parse_isa(isa));
  const auto top = static_cast<size_t>(scores.detail.top);
  REQUIRE(scores.logprobs.size() == tokens.size() - 1);
  REQUIRE(scores.top_ids.size() == top * scores.logprobs.size());
  for (size_t i = 0; i < scores.logprobs.size(); ++i) {
    const float* row = logits.data() + i * kVocab;
    float max = 0;
    float log_sum_exp = 0;
    ops.max_and_log_sum_exp(row, kVocab, &max, &log_sum_exp);
    CHECK(scores.logprobs[i] == row[tokens[i + 1]] - log_sum_exp);
    std::vector<int32_t> order(kVocab);
    for (size_t id = 0; id < kVocab; ++id) order[id] = static_cast<int32_t>(id);
    std::stable_sort(order.begin(), order.end(),
                     [row](int32_t a, int32_t b) { return row[a] > row[b]; });
    for (size_t j = 0; j < top; ++j) {
      CHECK(scores.top_ids[i * top + j] == order[j]);
      CHECK(scores.top_logprobs[i * top + j] == row[order[j]] - log_sum_exp);
    }
    const int64_t told = static_cast<int64_t>(i) - scores.detail.rows_begin;
    if (told < 0 || told >= scores.detail.num_rows()) continue;
    const float* told_row = scores.rows.get() + static_cast<size_t>(told) * kVocab;
    for (size_t id = 0; id < kVocab; ++id) CHECK(told_row[id] == row[id] - log_sum_exp);
  }
}

}  // namespace

TEST_CASE("scores are the log-probabilities that logits give, in any chunks and beside others") {
  const Model model;
  const Tokens tokens = prompt_of(90, 4);
  Engine engine(model.settings());
  const std::vector<float> logits = engine.logits(tokens);
  const auto& ops = lmrun::kernels::op_table(lmrun::kernels::parse_isa("auto"));
  std::vector<float> expected;
  for (size_t i = 0; i + 1 < tokens.size(); ++i) {
    float max = 0;
    float log_sum_exp = 0;
    ops.max_and_log_sum_exp(logits.data() + i * 40, 40, &max, &log_sum_exp);
    expected.push_back(logits[i * 40 + static_cast<size_t>(tokens[i + 1])] - log_sum_exp);
  }
  Settings settings = model.settings();
  settings.max_batch_tokens = 11;
  Engine other(settings);
  other.submit(1, prompt_of(9, 1), greedy(), 20);
  other.score(2, tokens);
  CHECK(scores_of(&other, 2).logprobs == expected);
  CHECK(other.stats().used_blocks == 0);
}

TEST_CASE("the best tokens and whole rows are those of the logits, in any chunks, beside others") {
  const Tokens tokens = prompt_of(90, 4);
  for (const Kind kind : kKinds) {
    const Model model(kind);
    for (const char* isa : {"generic", "auto"}) {
      Settings settings = model.settings();
      settings.isa = isa;
      const std::vector<float> logits = Engine(settings).logits(tokens);
      for (const int64_t budget : {8, 21, 96}) {
        for (const int64_t top : {0, 1, 3, 40}) {
          settings.max_batch_tokens = budget;
          settings.threads = 1 + budget % 2;
          settings.num_blocks = budget == 21 ? 7 : 40;  // 7: preemptions
          Engine engine(settings);
          engine.submit(1, prompt_of(9, 1), greedy(), 20);
          engine.score(2, prompt_of(33, 6), {top, 0, 32});
          engine.score(3, tokens, {top, 17, 60});
          const Scores scores = scores_of(&engine, 3);
          check_against_logits(scores, logits, tokens, isa);
        }
      }
    }
  }
}

TEST_CASE("a score tells nothing that was not asked for") {
  const Model model;
  Engine engine(model.settings());
  engine.score(1, prompt_of(50, 4), {0, 49, 49});
  const Scores scores = scores_of(&engine, 1);
  CHECK(scores.logprobs.size() == 49);
  CHECK(scores.top_ids.empty());
  CHECK(scores.top_logprobs.empty());
  CHECK_FALSE(scores.rows);
}

TEST_CASE("a score that is aborted half way gives nothing and leaves nothing") {
  const Model model;
  const Tokens tokens = prompt_of(90, 4);
  Settings settings = model.settings();
  settings.max_batch_tokens = 40;
  Engine whole(settings);
  whole.score(2, tokens, {2, 0, 89});
  const Scores expected = scores_of(&whole, 2);
  Engine engine(settings);
  engine.score(1, prompt_of(90, 5), {2, 0, 89});
  engine.score(2, tokens, {2, 0, 89});
  CHECK(engine.step().empty());
  engine.abort(1);
  const std::vector<Output> outputs = engine.step();
  REQUIRE(outputs.size() == 1);
  CHECK(outputs[0].finish_reason == FinishReason::kAbort);
  CHECK_FALSE(outputs[0].scores);
  const Scores scores = scores_of(&engine, 2);
  CHECK(scores.top_ids == expected.top_ids);
  CHECK(scores.top_logprobs == expected.top_logprobs);
  CHECK(std::memcmp(scores.rows.get(), expected.rows.get(), 89 * 40 * sizeof(float)) == 0);
  CHECK(engine.stats().used_blocks == 0);
}

TEST_CASE("a score that begins later tells the same bits, its context from the cache or not") {
  const Tokens tokens = prompt_of(90, 4);
  Tokens other = tokens;
  other.back() = (other.back() + 1) % 40;
  for (const int64_t bits : {16, 4}) {
    const Model model({bits == 4 ? Stored::kU4 : Stored::kFloat, false});
    Settings settings = model.settings();
    settings.kv_bits = {bits};
    Engine alone(settings);
    alone.score(1, tokens, {2, 70, 89});
    const Scores expected = scores_of(&alone, 1);
    for (const int64_t first : {1, 15, 16, 17, 47, 63, 64, 70, 88}) {
      for (const bool prefix_caching : {false, true}) {
        settings.prefix_caching = prefix_caching;
        settings.max_batch_tokens = first % 2 == 0 ? 96 : 13;
        settings.num_blocks = first == 47 ? 8 : 40;
        CAPTURE(first);
        CAPTURE(prefix_caching);
        Engine engine(settings);
        engine.score(7, other, {0, 0, 0, first});
        scores_of(&engine, 7);
        engine.submit(1, prompt_of(30, 2), greedy(), 20);
        engine.score(2, tokens, {2, std::max<int64_t>(first, 70), 89, first});
        const int64_t cached = engine.stats().cached_tokens;
        const Scores scores = scores_of(&engine, 2);
        const auto skipped = static_cast<size_t>(first);
        CHECK(scores.logprobs == tail_of(expected.logprobs, skipped));
        CHECK(scores.top_ids == tail_of(expected.top_ids, 2 * skipped));
        CHECK(scores.top_logprobs == tail_of(expected.top_logprobs, 2 * skipped));
        const auto num_rows = static_cast<size_t>(scores.detail.num_rows());
        const float* rows = expected.rows.get() + (19 - num_rows) * 40;
        CHECK(std::memcmp(scores.rows.get(), rows, num_rows * 40 * sizeof(float)) == 0);
        // Whole blocks of what precedes the first prediction that is told, not one more.
        const int64_t reused = prefix_caching ? first / 16 * 16 : 0;
        CHECK(engine.stats().cached_tokens - cached == reused);
        CHECK(engine.stats().used_blocks == 0);
      }
    }
  }
}

TEST_CASE("a score that cannot be told is refused when it is submitted") {
  const Model model;
  Engine engine(model.settings());
  const auto refuse = [&engine](const ScoreDetail& detail, const char* message) {
    CHECK_THROWS_WITH_AS(engine.score(1, prompt_of(10, 1), detail), message, InvalidArgument);
  };
  refuse({41, 0, 0}, "top=41: expected 0 to 40.");
  refuse({-1, 0, 0}, "top=-1: expected 0 to 40.");
  refuse({0, -1, 2}, "rows=(-1, 2): expected a range inside the 9 predictions.");
  refuse({0, 3, 2}, "rows=(3, 2): expected a range inside the 9 predictions.");
  refuse({0, 0, 10}, "rows=(0, 10): expected a range inside the 9 predictions.");
  const int64_t least = std::numeric_limits<int64_t>::min();
  refuse({0, 5, least},
         "rows=(5, -9223372036854775808): expected a range inside the 9 predictions.");
  refuse({0, 0, 0, -1}, "first=-1: expected one of the 9 predictions.");
  refuse({0, 0, 0, 9}, "first=9: expected one of the 9 predictions.");
  refuse({0, 2, 9, 3}, "rows=(2, 9): expected no prediction before first=3.");
  CHECK_FALSE(engine.has_work());
}
