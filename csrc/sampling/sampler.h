// From logits to the next token.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/kernels.h"
#include "sampling/best.h"

namespace lmrun::sampling {

struct Params {
  float temperature = 1;         // 0 is greedy
  std::optional<int64_t> top_k;  // at least 1
  float top_p = 1;               // in (0, 1]
  uint64_t seed = 0;
  int64_t min_tokens = 0;  // no stop id is sampled before that many
  std::vector<int32_t> stop_token_ids;
  std::vector<std::pair<int32_t, float>> logit_bias;  // added to the logits
  std::optional<int64_t> logprobs;                    // alternatives reported beside the choice
};

struct Choice {
  bool is_finite = true;  // else a logit was not, and nothing is chosen
  int32_t id = 0;
  float logprob = 0;                           // where asked for
  std::vector<std::pair<int32_t, float>> top;  // best first
};

// Throws base::InvalidArgument naming the parameter that is out of range.
void check_params(const Params& params, int64_t vocab_size);

bool are_finite(const float* logits, int64_t vocab_size);

// A uniform number in [0, 1) that depends on seed and position alone (SplitMix64 as a counter).
double uniform(uint64_t seed, uint64_t position);

// Chooses tokens; holds scratch, so one per thread.
class Sampler {
 public:
  // `logits` [vocab_size] are overwritten. `num_generated` is the number of completion tokens
  // before this one. Bias and masked stop ids, then temperature, top-k, top-p (Holtzman et al.
  // 2020); the log-probabilities are those of the logits as they came. Ties go to the lowest id.
  // The result depends on the arguments alone.
  Choice sample(const kernels::OpTable& ops, float* logits, int64_t vocab_size,
                const Params& params, int64_t num_generated);

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };
  static bool is_better(const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  }

  void fill_candidates(const float* logits, int64_t vocab_size);
  void report_best(const float* logits, int64_t vocab_size, int64_t count, float log_sum_exp,
                   Choice* choice);
  // Sorts the best `count` candidates to the front.
  void sort_best(int64_t count);
  int32_t draw(const float* logits, int64_t vocab_size, const Params& params, double random);
  int32_t draw_from_all(const float* logits, int64_t vocab_size, float temperature, double random);

  BestFinder best_;
  std::vector<int32_t> best_ids_;
  std::vector<Candidate> candidates_;
  std::vector<double> weights_;
};

}  // namespace lmrun::sampling
