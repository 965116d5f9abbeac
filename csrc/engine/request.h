// What the engine knows of a request beside its tokens, and what it says of it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sampling/sampler.h"

namespace lmrun::engine {

enum class FinishReason : uint8_t { kStop, kLength, kAbort, kError };

enum class RequestKind : uint8_t {
  kCompletion,
  kScore,   // log-probability of each next token
  kLogits,  // every row of logits
};

// What a score tells beside the log-probability of each next token.
struct ScoreDetail {
  int64_t top = 0;  // most probable next tokens at each position
  // Predictions [rows_begin, rows_end) of the tokens - 1 whose whole rows are told, from `first`
  // on.
  int64_t rows_begin = 0;
  int64_t rows_end = 0;
  // Predictions before it are not told: what they read may come from the prefix cache.
  int64_t first = 0;

  int64_t num_rows() const { return rows_end - rows_begin; }
};

// Of n = tokens - 1 - first predictions, natural logarithms.
struct Scores {
  std::vector<float> logprobs;  // [n]
  ScoreDetail detail;
  // Best first, ties by lowest id.
  std::vector<int32_t> top_ids;     // [n, top]
  std::vector<float> top_logprobs;  // [n, top]
  int64_t vocab_size = 0;           // V
  std::unique_ptr<float[]> rows;    // [num_rows, V]; none where no rows are told
};

struct Request {
  RequestKind kind = RequestKind::kCompletion;
  sampling::Params sampling;
  std::optional<int64_t> max_tokens;  // of the completion; none runs to the context length
  int64_t num_prompt_tokens = 0;
  bool was_counted = false;  // in the statistics
  // kScore; memory is taken when the first chunk runs.
  Scores scores;
  float* logits = nullptr;  // kLogits: [tokens, V], the caller's
  std::string error;        // why this step ends it, before it does
};

// What one step did to one request.
struct Output {
  int64_t id = 0;
  std::vector<int32_t> token_ids;
  std::vector<float> logprobs;                                       // one a token id, or none
  std::vector<std::vector<std::pair<int32_t, float>>> top_logprobs;  // likewise
  std::optional<FinishReason> finish_reason;                         // on the last output
  int64_t num_cached_tokens = 0;
  std::optional<Scores> scores;  // on the last output of a score that was not aborted
  std::string error;             // where the finish reason is an error
};

}  // namespace lmrun::engine
