// What the engine knows of a request beside its tokens, and what it says of it.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "sampling/sampler.h"

namespace lmrun::engine {

enum class FinishReason : uint8_t { kStop, kLength, kAbort };

enum class RequestKind : uint8_t {
  kCompletion,
  kScore,   // log-probability of each next token
  kLogits,  // every row of logits
};

struct Request {
  RequestKind kind = RequestKind::kCompletion;
  sampling::Params sampling;
  std::optional<int64_t> max_tokens;  // of the completion; none runs to the context length
  int64_t num_prompt_tokens = 0;
  bool was_counted = false;   // in the statistics
  std::vector<float> scores;  // kScore: [tokens - 1]
  float* logits = nullptr;    // kLogits: [tokens, V], the caller's
};

// What one step did to one request.
struct Output {
  int64_t id = 0;
  std::vector<int32_t> token_ids;
  std::vector<float> logprobs;                                       // one a token id, or none
  std::vector<std::vector<std::pair<int32_t, float>>> top_logprobs;  // likewise
  std::optional<FinishReason> finish_reason;                         // on the last output
  int64_t num_cached_tokens = 0;
  std::optional<std::vector<float>> scores;  // on the last output of a score
};

}  // namespace lmrun::engine
