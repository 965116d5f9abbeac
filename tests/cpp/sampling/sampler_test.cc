#include "sampling/sampler.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <vector>

#include "base/check.h"

using lmrun::base::InvalidArgument;
using lmrun::kernels::Isa;
using lmrun::sampling::check_params;
using lmrun::sampling::Choice;
using lmrun::sampling::Params;
using lmrun::sampling::Sampler;
using lmrun::sampling::uniform;

namespace {

Choice choose(std::vector<float> logits, const Params& params, int64_t num_generated = 0) {
  Sampler sampler;
  return sampler.sample(lmrun::kernels::op_table(Isa::kGeneric), logits.data(),
                        static_cast<int64_t>(logits.size()), params, num_generated);
}

std::map<int32_t, int> histogram(const std::vector<float>& logits, Params params, int draws) {
  std::map<int32_t, int> counts;
  for (int i = 0; i < draws; ++i) {
    params.seed = static_cast<uint64_t>(i);
    ++counts[choose(logits, params).id];
  }
  return counts;
}

}  // namespace

TEST_CASE("temperature 0 takes the best, the lowest id on a tie") {
  Params params;
  params.temperature = 0;
  CHECK(choose({1, 3, 2, 3}, params).id == 1);
}

TEST_CASE("draws follow the softmax at the temperature") {
  const std::vector<float> logits = {0, 1, 2, -std::numeric_limits<float>::max()};
  Params params;
  params.temperature = 0.5F;
  const int draws = 20000;
  auto counts = histogram(logits, params, draws);
  const double total = 1 + std::exp(2) + std::exp(4);
  for (int id = 0; id < 3; ++id) {
    const double expected = std::exp(2 * id) / total;
    // Five standard deviations.
    CHECK(std::abs(counts[id] / double{draws} - expected) <
          5 * std::sqrt(expected * (1 - expected) / draws));
  }
  CHECK(counts[3] == 0);
}

TEST_CASE("top-k keeps k candidates, top-p the fewest that reach its share") {
  const std::vector<float> logits = {std::log(0.1F), std::log(0.4F), std::log(0.3F),
                                     std::log(0.2F)};
  Params params;
  params.top_k = 2;
  auto counts = histogram(logits, params, 4000);
  CHECK(counts.size() == 2);
  CHECK(std::abs(counts[1] / 4000.0 - 4.0 / 7) < 0.04);
  params.top_k.reset();
  params.top_p = 0.69F;
  counts = histogram(logits, params, 4000);
  CHECK(counts.size() == 2);
  params.top_p = 0.71F;
  CHECK(histogram(logits, params, 4000).size() == 3);
  params.top_p = 1e-6F;
  CHECK(histogram(logits, params, 100).size() == 1);
  // Top-p is a share of what top-k leaves: 0.4 of 0.7 is more than half.
  params.top_k = 2;
  params.top_p = 0.55F;
  CHECK(histogram(logits, params, 500).size() == 1);
}

TEST_CASE("top-p over a flat distribution reaches past the first candidates sorted") {
  const std::vector<float> logits(1000, 0.0F);
  Params params;
  params.top_p = 0.9F;
  std::set<int32_t> ids;
  for (const auto& [id, count] : histogram(logits, params, 6000)) ids.insert(id);
  CHECK(*ids.rbegin() < 901);
  CHECK(ids.size() > 800);
}

TEST_CASE("top-k of the whole vocabulary and top-p 1 change nothing") {
  const std::vector<float> logits = {0.1F, 0.7F, -0.3F, 0.4F, 0.2F};
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Params params;
    params.seed = seed;
    const int32_t plain = choose(logits, params).id;
    params.top_k = 5;
    CHECK(choose(logits, params).id == plain);
    params.top_k = 500;
    CHECK(choose(logits, params).id == plain);
  }
}

TEST_CASE("a draw depends on seed and position alone") {
  CHECK(uniform(1, 2) == uniform(1, 2));
  std::set<double> seen;
  double sum = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    for (uint64_t position = 0; position < 100; ++position) {
      const double value = uniform(seed, position);
      CHECK(value >= 0);
      CHECK(value < 1);
      seen.insert(value);
      sum += value;
    }
  }
  CHECK(seen.size() == 10000);
  CHECK(std::abs(sum / 10000 - 0.5) < 0.02);
}

TEST_CASE("no stop id is chosen before min_tokens") {
  Params params;
  params.temperature = 0;
  params.min_tokens = 2;
  params.stop_token_ids = {1};
  CHECK(choose({1, 3, 2}, params, 0).id == 2);
  CHECK(choose({1, 3, 2}, params, 1).id == 2);
  CHECK(choose({1, 3, 2}, params, 2).id == 1);
  params.temperature = 1;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    params.seed = seed;
    CHECK(choose({1, 9, 2}, params, 0).id != 1);
  }
}

TEST_CASE("logit bias moves the choice and not the log-probabilities reported") {
  const std::vector<float> logits = {1, 3, 2};
  Params params;
  params.temperature = 0;
  params.logprobs = 2;
  params.logit_bias = {{0, 10.0F}};
  params.min_tokens = 1;
  params.stop_token_ids = {0};
  const float log_sum_exp = std::log(std::exp(1.0F) + std::exp(3.0F) + std::exp(2.0F));
  const Choice masked = choose(logits, params, 0);
  CHECK(masked.id == 1);
  const Choice choice = choose(logits, params, 1);
  CHECK(choice.id == 0);
  CHECK(choice.logprob == doctest::Approx(1 - log_sum_exp));
  REQUIRE(choice.top.size() == 2);
  CHECK(choice.top[0].first == 1);
  CHECK(choice.top[0].second == doctest::Approx(3 - log_sum_exp));
  CHECK(choice.top[1].first == 2);
}

TEST_CASE("a bias past what a float holds still names its token") {
  const float huge = std::numeric_limits<float>::max();
  Params params;
  params.logit_bias = {{1, huge}, {2, -huge}};
  for (const float temperature : {0.0F, 1.0F}) {
    params.temperature = temperature;
    for (const float top_p : {0.5F, 1.0F}) {
      params.top_p = top_p;
      CHECK(choose({1e37F, 1e37F, -1e37F}, params).id == 1);
    }
  }
}

TEST_CASE("log-probabilities are those before temperature") {
  Params params;
  params.temperature = 0.01F;
  params.logprobs = 0;
  const Choice choice = choose({0, 1}, params);
  CHECK(choice.id == 1);
  CHECK(choice.logprob == doctest::Approx(-std::log(1 + std::exp(-1.0F))));
  CHECK(choice.top.empty());
}

TEST_CASE("where a logit is not finite nothing is chosen") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    CHECK_FALSE(choose({1, bad, 2}, Params{}).is_finite);
  }
  CHECK(choose({1, 3e38F, -3e38F}, Params{}).is_finite);
}

TEST_CASE("parameters out of range are named") {
  const auto refuse = [](auto change, const char* message) {
    Params params;
    change(&params);
    CHECK_THROWS_WITH_AS(check_params(params, 100), message, InvalidArgument);
  };
  refuse([](Params* p) { p->temperature = -1; },
         "temperature=-1: expected a number of at least 0.");
  refuse([](Params* p) { p->temperature = std::numeric_limits<float>::quiet_NaN(); },
         "temperature=nan: expected a number of at least 0.");
  refuse([](Params* p) { p->top_k = 0; }, "top_k=0: expected at least 1.");
  refuse([](Params* p) { p->top_p = 0; }, "top_p=0: expected more than 0 and at most 1.");
  refuse([](Params* p) { p->top_p = 1.5F; }, "top_p=1.5: expected more than 0 and at most 1.");
  refuse([](Params* p) { p->min_tokens = -1; }, "min_tokens=-1: expected at least 0.");
  refuse([](Params* p) { p->stop_token_ids = {100}; },
         "stop_token_ids=100: expected token ids from 0 to 99.");
  refuse(
      [](Params* p) {
        p->min_tokens = 1;
        for (int32_t id = 0; id < 100; ++id) p->stop_token_ids.push_back(id);
      },
      "min_tokens=1: expected 0 where every token id is a stop id.");
  refuse([](Params* p) { p->logit_bias = {{-1, 0.0F}}; },
         "logit_bias=-1: expected token ids from 0 to 99.");
  refuse([](Params* p) { p->logit_bias = {{1, std::numeric_limits<float>::infinity()}}; },
         "logit_bias=inf: expected finite numbers.");
  refuse([](Params* p) { p->logprobs = 101; }, "logprobs=101: expected 0 to 100.");
  check_params(Params{}, 100);
}
