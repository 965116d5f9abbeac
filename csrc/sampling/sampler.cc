#include "sampling/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <set>

#include "base/check.h"
#include "base/concat.h"

namespace lmrun::sampling {
namespace {

constexpr int64_t kFirstSorted = 64;
constexpr float kLargest = std::numeric_limits<float>::max();

int32_t argmax(const float* logits, int64_t vocab_size) {
  return static_cast<int32_t>(std::max_element(logits, logits + vocab_size) - logits);
}

void check(bool is_legal, const char* name, const auto& got, const std::string& expected) {
  if (!is_legal) {
    throw base::InvalidArgument(base::concat(name, "=", got, ": expected ", expected, "."));
  }
}

}  // namespace

void check_params(const Params& params, int64_t vocab_size) {
  check(std::isfinite(params.temperature) && params.temperature >= 0, "temperature",
        params.temperature, "a number of at least 0");
  if (params.top_k) check(*params.top_k >= 1, "top_k", *params.top_k, "at least 1");
  check(params.top_p > 0 && params.top_p <= 1, "top_p", params.top_p, "more than 0 and at most 1");
  check(params.min_tokens >= 0, "min_tokens", params.min_tokens, "at least 0");
  const std::string ids = base::concat("token ids from 0 to ", vocab_size - 1);
  for (const int32_t id : params.stop_token_ids) {
    check(id >= 0 && id < vocab_size, "stop_token_ids", id, ids);
  }
  if (params.min_tokens > 0) {
    const std::set<int32_t> stops(params.stop_token_ids.begin(), params.stop_token_ids.end());
    check(static_cast<int64_t>(stops.size()) < vocab_size, "min_tokens", params.min_tokens,
          "0 where every token id is a stop id");
  }
  for (const auto& [id, bias] : params.logit_bias) {
    check(id >= 0 && id < vocab_size, "logit_bias", id, ids);
    check(std::isfinite(bias), "logit_bias", bias, "finite numbers");
  }
  if (params.logprobs) {
    check(*params.logprobs >= 0 && *params.logprobs <= vocab_size, "logprobs", *params.logprobs,
          base::concat("0 to ", vocab_size));
  }
}

bool are_finite(const float* logits, int64_t vocab_size) {
  constexpr uint32_t kExponent = 0x7F800000;
  uint32_t num_others = 0;
  for (int64_t i = 0; i < vocab_size; ++i) {
    num_others += (std::bit_cast<uint32_t>(logits[i]) & kExponent) == kExponent ? 1 : 0;
  }
  return num_others == 0;
}

double uniform(uint64_t seed, uint64_t position) {
  // Two rounds: streams of neighbouring seeds do not share numbers.
  uint64_t value = seed;
  for (const uint64_t step : {uint64_t{1}, position + 1}) {
    value += step * 0x9E3779B97F4A7C15U;
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9U;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBU;
    value ^= value >> 31;
  }
  return static_cast<double>(value >> 11) * 0x1p-53;
}

void Sampler::fill_candidates(const float* logits, int64_t vocab_size) {
  candidates_.resize(static_cast<size_t>(vocab_size));
  for (int64_t id = 0; id < vocab_size; ++id) {
    candidates_[static_cast<size_t>(id)] = {logits[id], static_cast<int32_t>(id)};
  }
}

void Sampler::sort_best(int64_t count) {
  const auto middle =
      candidates_.begin() + std::min<int64_t>(count, static_cast<int64_t>(candidates_.size()));
  std::nth_element(candidates_.begin(), middle, candidates_.end(), is_better);
  std::sort(candidates_.begin(), middle, is_better);
}

void Sampler::report_best(const float* logits, int64_t vocab_size, int64_t count, float log_sum_exp,
                          Choice* choice) {
  best_ids_.resize(static_cast<size_t>(count));
  best_.find(logits, vocab_size, count, best_ids_.data());
  for (const int32_t id : best_ids_) choice->top.emplace_back(id, logits[id] - log_sum_exp);
}

Choice Sampler::sample(const kernels::OpTable& ops, float* logits, int64_t vocab_size,
                       const Params& params, int64_t num_generated) {
  Choice choice;
  choice.is_finite = are_finite(logits, vocab_size);
  if (!choice.is_finite) return choice;
  float log_sum_exp = 0;
  if (params.logprobs) {
    float max = 0;
    ops.max_and_log_sum_exp(logits, vocab_size, &max, &log_sum_exp);
    report_best(logits, vocab_size, *params.logprobs, log_sum_exp, &choice);
  }
  std::vector<std::pair<int32_t, float>> changed;  // ids with the logits they came with
  for (const auto& [id, bias] : params.logit_bias) {
    changed.emplace_back(id, logits[id]);
    logits[id] = std::clamp(logits[id] + bias, -kLargest, kLargest);
  }
  if (num_generated < params.min_tokens) {
    for (const int32_t id : params.stop_token_ids) {
      changed.emplace_back(id, logits[id]);
      logits[id] = -std::numeric_limits<float>::infinity();
    }
  }
  choice.id = params.temperature == 0
                  ? argmax(logits, vocab_size)
                  : draw(logits, vocab_size, params,
                         uniform(params.seed, static_cast<uint64_t>(num_generated)));
  if (params.logprobs) {
    float logit = logits[choice.id];
    // The first entry of an id holds the logit it came with.
    const auto it = std::ranges::find(changed, choice.id, &std::pair<int32_t, float>::first);
    if (it != changed.end()) logit = it->second;
    choice.logprob = logit - log_sum_exp;
  }
  return choice;
}

int32_t Sampler::draw_from_all(const float* logits, int64_t vocab_size, float temperature,
                               double random) {
  const double inverse = 1.0 / temperature;
  const float max = *std::max_element(logits, logits + vocab_size);
  weights_.resize(static_cast<size_t>(vocab_size));
  double total = 0;
  for (int64_t id = 0; id < vocab_size; ++id) {
    total += std::exp((static_cast<double>(logits[id]) - max) * inverse);
    weights_[static_cast<size_t>(id)] = total;
  }
  const auto it = std::upper_bound(weights_.begin(), weights_.end(), random * total);
  if (it == weights_.end()) return argmax(logits, vocab_size);
  return static_cast<int32_t>(it - weights_.begin());
}

int32_t Sampler::draw(const float* logits, int64_t vocab_size, const Params& params,
                      double random) {
  const int64_t most = std::min(params.top_k.value_or(vocab_size), vocab_size);
  if (most == vocab_size && params.top_p == 1) {
    return draw_from_all(logits, vocab_size, params.temperature, random);
  }
  const double inverse = 1.0 / params.temperature;
  const float max = *std::max_element(logits, logits + vocab_size);
  const auto weight = [&](float logit) {
    return std::exp((static_cast<double>(logit) - max) * inverse);
  };
  fill_candidates(logits, vocab_size);
  // The mass that top-p is a share of: all candidates that top-k leaves.
  double total = 0;
  if (most == vocab_size) {
    for (int64_t id = 0; id < vocab_size; ++id) total += weight(logits[id]);
  } else {
    sort_best(most);
    for (int64_t i = 0; i < most; ++i) total += weight(candidates_[static_cast<size_t>(i)].logit);
  }
  // Sort as many of the best as reach the share: seldom more than the first few.
  const double share = params.top_p == 1 ? std::numeric_limits<double>::infinity()
                                         : total * static_cast<double>(params.top_p);
  int64_t num_sorted = most == vocab_size ? 0 : most;
  double sum = 0;
  weights_.clear();
  while (static_cast<int64_t>(weights_.size()) < most && sum < share) {
    const auto next = static_cast<int64_t>(weights_.size());
    if (next == num_sorted) {
      num_sorted = std::min(most, std::max(kFirstSorted, 4 * num_sorted));
      sort_best(num_sorted);
    }
    sum += weight(candidates_[static_cast<size_t>(next)].logit);
    weights_.push_back(sum);
  }
  const auto it = std::upper_bound(weights_.begin(), weights_.end(), random * sum);
  const size_t chosen = it == weights_.end() ? 0 : static_cast<size_t>(it - weights_.begin());
  return candidates_[chosen].id;
}

}  // namespace lmrun::sampling
