#include "engine/settings.h"

#include <limits>

#include "base/check.h"
#include "base/concat.h"
#include "kernels/kernels.h"
#include "quant/kv_layouts.h"

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

void check_kv_bits(const std::vector<int64_t>& all, int64_t num_layers) {
  const auto size = static_cast<int64_t>(all.size());
  if (size != 1 && size != num_layers) {
    throw base::InvalidArgument(
        base::concat("kv_bits: expected one number, or one for each of the ", num_layers,
                     " layers, got ", size, "."));
  }
  for (const int64_t bits : all) {
    check(bits == 32 || bits == 16 || bits == 8 || bits == 4, "kv_bits", bits, "32, 16, 8 or 4");
  }
}

}  // namespace

void check_settings(const Settings& settings, const workspace::ModelConfig& model) {
  check_range("threads", settings.threads, 1, kMostThreads);
  check_range("num_blocks", settings.num_blocks, 1, std::numeric_limits<int32_t>::max());
  check_range("block_size", settings.block_size, 1, kMostTokens);
  check(settings.block_size % kernels::kAttentionChunk == 0, "block_size", settings.block_size,
        base::concat("a multiple of ", kernels::kAttentionChunk));
  check_kv_bits(settings.kv_bits, model.num_layers);
  const int64_t bits = settings.activation_bits;
  check(bits == 32 || bits == 16 || bits == 8, "activation_bits", bits, "32, 16 or 8");
  check_range("max_num_seqs", settings.max_num_seqs, 1, kMostTokens);
  check_range("max_batch_tokens", settings.max_batch_tokens, 1, kMostTokens);
  check(settings.max_batch_tokens >= settings.max_num_seqs, "max_batch_tokens",
        settings.max_batch_tokens,
        base::concat("at least max_num_seqs (", settings.max_num_seqs,
                     "): a step takes one token of every running sequence"));
  check(settings.context_length >= 1 && settings.context_length <= model.context_length,
        "context_length", settings.context_length,
        base::concat("1 to ", model.context_length, ", the context length of the model"));
  const std::string& memory = settings.weight_memory;
  if (memory != "auto" && memory != "huge_pages" && memory != "mapped") {
    throw base::InvalidArgument(
        base::concat("weight_memory=", memory, ": expected auto, huge_pages or mapped."));
  }
  check(model.head_dim % 8 == 0, "head_dim", model.head_dim,
        "a multiple of 8: the engine does not run this model");
}

std::vector<quant::KvLayout> kv_layouts(const Settings& settings,
                                        const workspace::ModelConfig& model) {
  quant::KvLayout shape;
  shape.num_kv_heads = model.num_kv_heads;
  shape.head_dim = model.head_dim;
  shape.block_size = settings.block_size;
  std::vector<int64_t> bits = settings.kv_bits;
  if (bits.size() == 1) bits.assign(static_cast<size_t>(model.num_layers), bits.front());
  return quant::kv_layouts(shape, bits);
}

}  // namespace lmrun::engine
