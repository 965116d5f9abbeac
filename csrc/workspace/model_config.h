// What model.json of a workspace says.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lmrun::workspace {

struct ModelConfig {
  std::string architecture;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t vocab_size = 0;
  int64_t context_length = 0;
  float rms_norm_eps = 0;
  bool tie_word_embeddings = false;
  bool qkv_bias = false;
  bool qk_norm = false;
  float attention_scale = 0;
  float rope_attention_factor = 0;
  std::optional<int32_t> bos_token_id;
  std::vector<int32_t> eos_token_ids;
  std::string weight_method;      // "none" where nothing is quantized
  int64_t weight_bits = 0;        // 4, 8, 16 or 32
  int64_t weight_group_size = 0;  // 0 where nothing is quantized or a row is a group
  int64_t activation_bits = 16;   // or 8

  bool is_quantized() const { return weight_method != "none"; }
  int64_t q_features() const { return num_heads * head_dim; }
  int64_t qkv_features() const { return (num_heads + 2 * num_kv_heads) * head_dim; }
};

// Reads and checks every field; unknown ones are refused. `where` begins each message.
// Throws base::Error.
ModelConfig parse_model_config(std::string_view text, const std::string& where);

}  // namespace lmrun::workspace
