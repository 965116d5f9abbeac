#include "engine/settings.h"

#include <limits>

#include "base/check.h"
#include "base/concat.h"
#include "kernels/kernels.h"

namespace lmrun::engine {
namespace {

// Past any use; keeps products of settings inside int64.
constexpr int64_t kMostTokens = int64_t{1} << 20;
constexpr int64_t kMostThreads = 1024;

void check(bool is_legal, const char* name, int64_t got, const std::string& expected) {
  if (!is_legal) {
    throw base::InvalidArgument(base::concat(name, "=", got, ": expected ", expected, "."));
  }
}

void check_range(const char* name, int64_t got, int64_t low, int64_t high) {
  check(got >= low && got <= high, name, got, base::concat(low, " to ", high));
}

}  // namespace

void check_settings(const Settings& settings, const workspace::ModelConfig& model) {
  check_range("threads", settings.threads, 1, kMostThreads);
  check_range("num_blocks", settings.num_blocks, 1, std::numeric_limits<int32_t>::max());
  check_range("block_size", settings.block_size, 1, kMostTokens);
  check(settings.block_size % kernels::kAttentionChunk == 0, "block_size", settings.block_size,
        base::concat("a multiple of ", kernels::kAttentionChunk));
  const int64_t bits = settings.kv_bits;
  check(bits == 32 || bits == 16 || bits == 8 || bits == 4, "kv_bits", bits, "32, 16, 8 or 4");
  check_range("max_num_seqs", settings.max_num_seqs, 1, kMostTokens);
  check_range("max_batch_tokens", settings.max_batch_tokens, 1, kMostTokens);
  check(settings.max_batch_tokens >= settings.max_num_seqs, "max_batch_tokens",
        settings.max_batch_tokens,
        base::concat("at least max_num_seqs (", settings.max_num_seqs,
                     "): a step takes one token of every running sequence"));
  check(settings.context_length >= 1 && settings.context_length <= model.context_length,
        "context_length", settings.context_length,
        base::concat("1 to ", model.context_length, ", the context length of the model"));
  check(model.head_dim % 8 == 0, "head_dim", model.head_dim,
        "a multiple of 8: the engine does not run this model");
}

quant::KvLayout kv_layout(const Settings& settings, const workspace::ModelConfig& model) {
  quant::KvLayout layout;
  layout.num_layers = model.num_layers;
  layout.num_kv_heads = model.num_kv_heads;
  layout.head_dim = model.head_dim;
  layout.block_size = settings.block_size;
  layout.bits = static_cast<int>(settings.kv_bits);
  return layout;
}

}  // namespace lmrun::engine
