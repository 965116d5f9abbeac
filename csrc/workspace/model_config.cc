#include "workspace/model_config.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>

#include "base/check.h"
#include "base/json.h"
#include "quant/layout.h"

namespace lmrun::workspace {
namespace {

using base::Json;

// No model comes near; products of three dimensions stay far inside int64.
constexpr int64_t kMaxDimension = int64_t{1} << 20;
constexpr int64_t kMaxVocabulary = int64_t{1} << 24;
constexpr int64_t kMaxContext = int64_t{1} << 24;
constexpr int64_t kMaxLayers = 4096;

// Members of one object, each taken by name and kind; those not taken are refused.
class Fields {
 public:
  Fields(const Json& json, std::string where) : where_(std::move(where)) {
    LMRUN_CHECK(json.as_object() != nullptr, where_ << ": expected an object.");
    json_ = &json;
  }

  const std::string& where() const { return where_; }

  const Json& take(const char* name) {
    const Json* json = json_->find(name);
    LMRUN_CHECK(json != nullptr, where_ << "." << name << ": missing.");
    taken_.emplace_back(name);
    return *json;
  }

  int64_t integer(const char* name, int64_t low, int64_t high) {
    const int64_t* value = take(name).as_integer();
    LMRUN_CHECK(value != nullptr && *value >= low && *value <= high,
                where_ << "." << name << ": expected an integer from " << low << " to " << high
                       << (value != nullptr ? ", got " + std::to_string(*value) : "") << ".");
    return *value;
  }

  bool boolean(const char* name) {
    const bool* value = take(name).as_bool();
    LMRUN_CHECK(value != nullptr, where_ << "." << name << ": expected true or false.");
    return *value;
  }

  std::string string(const char* name) {
    const std::string* value = take(name).as_string();
    LMRUN_CHECK(value != nullptr, where_ << "." << name << ": expected a string.");
    return *value;
  }

  // A positive number that stays positive and finite as float32.
  float positive(const char* name) {
    double value = 0;
    const bool is_number = take(name).as_number(&value);
    const auto narrow = static_cast<float>(value);
    LMRUN_CHECK(is_number && std::isfinite(narrow) && narrow > 0,
                where_ << "." << name << ": expected a positive number.");
    return narrow;
  }

  void expect_string(const char* name, const char* expected) {
    const std::string got = string(name);
    LMRUN_CHECK(got == expected,
                where_ << "." << name << ": expected " << expected << ", got " << got << ".");
  }

  void expect_all_taken() const {
    for (const Json::Member& member : *json_->as_object()) {
      LMRUN_CHECK(std::find(taken_.begin(), taken_.end(), member.first) != taken_.end(),
                  where_ << "." << member.first << ": unknown field.");
    }
  }

 private:
  std::string where_;
  const Json* json_ = nullptr;
  std::vector<std::string> taken_;
};

int32_t token_id(const Json& json, const std::string& where, int64_t vocab_size) {
  const int64_t* id = json.as_integer();
  LMRUN_CHECK(id != nullptr && *id >= 0 && *id < vocab_size,
              where << ": expected a token id below " << vocab_size << ".");
  return static_cast<int32_t>(*id);
}

void read_token_ids(Fields* fields, ModelConfig* config) {
  const Json& bos = fields->take("bos_token_id");
  if (!bos.is_null()) {
    config->bos_token_id = token_id(bos, fields->where() + ".bos_token_id", config->vocab_size);
  }
  const Json::Array* eos = fields->take("eos_token_ids").as_array();
  LMRUN_CHECK(eos != nullptr, fields->where() << ".eos_token_ids: expected an array.");
  for (const Json& id : *eos) {
    config->eos_token_ids.push_back(
        token_id(id, fields->where() + ".eos_token_ids", config->vocab_size));
  }
}

void read_float_weights(const ModelConfig& config, const std::string& where) {
  LMRUN_CHECK(config.weight_bits == 16 || config.weight_bits == 32,
              where << ".bits: expected 16 or 32 where the method is none, got "
                    << config.weight_bits << ".");
  LMRUN_CHECK(config.weight_group_size == 0,
              where << ".group_size: expected 0 where the method is none, got "
                    << config.weight_group_size << ".");
  LMRUN_CHECK(config.activation_bits == 16,
              where << ".activation_bits: expected 16 where the method is none, got "
                    << config.activation_bits << ".");
}

// These describe the whole; what a matrix is, its tensors say.
void read_weights(const Json& json, const std::string& where, int64_t version,
                  ModelConfig* config) {
  Fields fields(json, where);
  config->weight_method = fields.string("method");
  LMRUN_CHECK(!config->weight_method.empty(), where << ".method: empty.");
  config->weight_bits = fields.integer("bits", 1, 32);
  config->weight_group_size = fields.integer("group_size", 0, kMaxDimension);
  fields.boolean("symmetric");
  if (version > 1) config->activation_bits = fields.integer("activation_bits", 1, 32);
  fields.expect_all_taken();
  if (!config->is_quantized()) return read_float_weights(*config, where);
  LMRUN_CHECK(config->weight_bits == 4 || (config->weight_bits == 8 && version > 1),
              where << ".bits: expected " << (version > 1 ? "4 or 8" : "4") << ", got "
                    << config->weight_bits << ".");
  LMRUN_CHECK(
      config->weight_group_size % quant::kU4TileInputs == 0 &&
          (config->weight_group_size > 0 || version > 1),
      where << ".group_size: expected a "
            << (version > 1 ? "multiple of 8, or 0 for whole rows" : "positive multiple of 8")
            << ", got " << config->weight_group_size << ".");
  const bool is_int8 = config->activation_bits == 8;
  LMRUN_CHECK(
      config->activation_bits == 16 || is_int8,
      where << ".activation_bits: expected 16 or 8, got " << config->activation_bits << ".");
  LMRUN_CHECK(!is_int8 || (config->weight_bits == 8 && config->weight_group_size == 0),
              where << ".activation_bits: 8 needs bits 8 and group_size 0.");
}

void read_dimensions(Fields* fields, ModelConfig* config) {
  config->hidden_size = fields->integer("hidden_size", 1, kMaxDimension);
  config->intermediate_size = fields->integer("intermediate_size", 1, kMaxDimension);
  config->num_layers = fields->integer("num_layers", 1, kMaxLayers);
  config->num_heads = fields->integer("num_heads", 1, kMaxDimension);
  config->num_kv_heads = fields->integer("num_kv_heads", 1, kMaxDimension);
  config->head_dim = fields->integer("head_dim", 2, kMaxDimension);
  config->vocab_size = fields->integer("vocab_size", 1, kMaxVocabulary);
  config->context_length = fields->integer("context_length", 1, kMaxContext);
  const std::string& where = fields->where();
  LMRUN_CHECK(config->num_heads % config->num_kv_heads == 0,
              where << ".num_heads: expected a multiple of num_kv_heads (" << config->num_kv_heads
                    << "), got " << config->num_heads << ".");
  LMRUN_CHECK(config->head_dim % 2 == 0,
              where << ".head_dim: expected an even number, got " << config->head_dim << ".");
  LMRUN_CHECK(
      config->qkv_features() <= kMaxDimension && 2 * config->intermediate_size <= kMaxDimension,
      where << ": a projection has more than " << kMaxDimension << " features.");
}

}  // namespace

ModelConfig parse_model_config(std::string_view text, const std::string& where) {
  Json json;
  try {
    json = Json::parse(text);
  } catch (const base::Error& error) {
    throw base::Error(where + ": " + error.what());
  }
  Fields fields(json, where);
  fields.expect_string("format", "lmrun-workspace");
  const int64_t version = fields.integer("schema_version", 0, std::numeric_limits<int32_t>::max());
  LMRUN_CHECK(version == 1 || version == 2,
              where << ".schema_version: this engine reads 1 and 2, got " << version
                    << ". Build the workspace again.");
  fields.expect_string("layout", "cpu-tile16");
  const int64_t tp = fields.integer("tp", 1, kMaxDimension);
  LMRUN_CHECK(tp == 1,
              where << ".tp: expected 1, got " << tp << "; tensor parallelism is not built yet.");
  ModelConfig config;
  config.architecture = fields.string("architecture");
  LMRUN_CHECK(!config.architecture.empty(), where << ".architecture: empty.");
  read_dimensions(&fields, &config);
  config.rms_norm_eps = fields.positive("rms_norm_eps");
  config.tie_word_embeddings = fields.boolean("tie_word_embeddings");
  config.qkv_bias = fields.boolean("qkv_bias");
  config.qk_norm = fields.boolean("qk_norm");
  config.attention_scale = fields.positive("attention_scale");
  config.rope_attention_factor = fields.positive("rope_attention_factor");
  read_token_ids(&fields, &config);
  read_weights(fields.take("weights"), where + ".weights", version, &config);
  LMRUN_CHECK(fields.take("source").as_object() != nullptr,
              where << ".source: expected an object.");
  fields.expect_all_taken();
  return config;
}

}  // namespace lmrun::workspace
