#include "workspace/weights.h"

#include <cmath>
#include <cstdint>
#include <set>

#include "base/check.h"
#include "workspace/safetensors.h"

namespace lmrun::workspace {
namespace {

using quant::PackedMatrix;
using quant::WeightFormat;

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

class Binder {
 public:
  Binder(const ModelConfig& config, const TensorIndex& index, std::string where)
      : config_(config), index_(index), where_(std::move(where)) {}

  bool has(const std::string& name) const { return index_.contains(name); }

  const TensorEntry& take(const std::string& name, Dtype dtype, const std::vector<int64_t>& shape) {
    const TensorEntry& entry = find(name);
    LMRUN_CHECK(entry.dtype == dtype && entry.shape == shape,
                where_ << ": " << name << ": expected " << dtype_name(dtype) << " "
                       << shape_text(shape) << ", got " << dtype_name(entry.dtype) << " "
                       << shape_text(entry.shape) << ".");
    return entry;
  }

  const float* vector(const std::string& name, int64_t size) {
    const TensorEntry& entry = take(name, Dtype::kF32, {size});
    const auto* values = reinterpret_cast<const float*>(entry.bytes.data());
    for (int64_t i = 0; i < size; ++i) {
      LMRUN_CHECK(std::isfinite(values[i]),
                  where_ << ": " << name << ": element " << i << " is not finite.");
    }
    return values;
  }

  // A matrix [n, k] stored as it is.
  PackedMatrix float_matrix(const std::string& name, int64_t n, int64_t k) {
    PackedMatrix matrix;
    matrix.n = n;
    matrix.k = k;
    const TensorEntry& entry = find(name);
    switch (entry.dtype) {
      case Dtype::kF32:
        matrix.format = WeightFormat::kF32;
        break;
      case Dtype::kF16:
        matrix.format = WeightFormat::kF16;
        break;
      case Dtype::kBf16:
        matrix.format = WeightFormat::kBf16;
        break;
      case Dtype::kU8:
        throw base::Error(where_ + ": " + name + ": expected F32, F16 or BF16, got U8.");
    }
    const int64_t tiles = matrix.num_tiles();
    if (entry.dtype == Dtype::kF32) {
      take(name, entry.dtype, {tiles, k, quant::kTileFeatures});
    } else {
      take(name, entry.dtype, {tiles, (k + 1) / 2, quant::kTileFeatures, 2});
    }
    matrix.weight = entry.bytes.data();
    return matrix;
  }

  // A linear [n, k]: codes where the workspace is quantized and this one was not left out.
  PackedMatrix linear(const std::string& base, int64_t n, int64_t k) {
    if (!config_.is_quantized() || has(base + ".weight"))
      return float_matrix(base + ".weight", n, k);
    const int64_t group_size = config_.weight_group_size;
    LMRUN_CHECK(k % group_size == 0, where_ << ": " << base << ".qweight: group size " << group_size
                                            << " must divide its " << k << " input features.");
    PackedMatrix matrix;
    matrix.format = WeightFormat::kU4;
    matrix.n = n;
    matrix.k = k;
    matrix.group_size = group_size;
    const int64_t tiles = matrix.num_tiles();
    const int64_t rows = k / quant::kU4TileInputs;
    const std::vector<int64_t> groups = {tiles, k / group_size, quant::kTileFeatures};
    matrix.weight =
        take(base + ".qweight", Dtype::kU8, {tiles, rows, quant::kTileFeatures, 4}).bytes.data();
    matrix.scale =
        reinterpret_cast<const uint16_t*>(take(base + ".scales", Dtype::kF16, groups).bytes.data());
    matrix.zero =
        reinterpret_cast<const uint8_t*>(take(base + ".zeros", Dtype::kU8, groups).bytes.data());
    return matrix;
  }

  void expect_all_taken() const {
    for (const auto& [name, entry] : index_) {
      LMRUN_CHECK(taken_.contains(name), where_ << ": " << name << ": unexpected tensor.");
    }
  }

 private:
  const TensorEntry& find(const std::string& name) {
    const auto it = index_.find(name);
    LMRUN_CHECK(it != index_.end(), where_ << ": " << name << ": missing.");
    taken_.insert(name);
    return it->second;
  }

  const ModelConfig& config_;
  const TensorIndex& index_;
  std::string where_;
  std::set<std::string> taken_;
};

LayerWeights bind_layer(Binder* binder, const ModelConfig& config, int64_t layer) {
  const std::string prefix = "layers." + std::to_string(layer);
  const std::string qkv = prefix + ".attention.w_qkv.0";
  const int64_t hidden = config.hidden_size;
  LayerWeights weights;
  weights.attention_norm = binder->vector(prefix + ".attention_norm.weight", hidden);
  weights.w_qkv = binder->linear(qkv, config.qkv_features(), hidden);
  if (config.qkv_bias) weights.w_qkv.bias = binder->vector(qkv + ".bias", config.qkv_features());
  if (config.qk_norm) {
    weights.q_norm = binder->vector(prefix + ".attention.q_norm.weight", config.head_dim);
    weights.k_norm = binder->vector(prefix + ".attention.k_norm.weight", config.head_dim);
  }
  weights.wo = binder->linear(prefix + ".attention.wo.0", hidden, config.q_features());
  weights.ffn_norm = binder->vector(prefix + ".ffn_norm.weight", hidden);
  weights.w13 =
      binder->linear(prefix + ".feed_forward.w13.0", 2 * config.intermediate_size, hidden);
  weights.w2 = binder->linear(prefix + ".feed_forward.w2.0", hidden, config.intermediate_size);
  return weights;
}

}  // namespace

Weights read_weights(const ModelConfig& config, std::span<const std::byte> file,
                     const std::string& where) {
  const TensorIndex index = read_safetensors(file, where);
  Binder binder(config, index, where);
  Weights weights;
  weights.tok_embeddings =
      binder.float_matrix("tok_embeddings.weight", config.vocab_size, config.hidden_size);
  weights.output =
      config.tie_word_embeddings
          ? weights.tok_embeddings
          : binder.float_matrix("output.weight", config.vocab_size, config.hidden_size);
  weights.norm = binder.vector("norm.weight", config.hidden_size);
  weights.inv_freq = binder.vector("rope.inv_freq", config.head_dim / 2);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    weights.layers.push_back(bind_layer(&binder, config, layer));
  }
  binder.expect_all_taken();
  return weights;
}

}  // namespace lmrun::workspace
