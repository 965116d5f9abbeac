#include "workspace/weights.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
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

  const float* vector(const std::string& name, int64_t size) { return floats(name, {size}); }

  const float* floats(const std::string& name, const std::vector<int64_t>& shape) {
    const TensorEntry& entry = take(name, Dtype::kF32, shape);
    const auto* values = reinterpret_cast<const float*>(entry.bytes.data());
    for (size_t i = 0; i < entry.bytes.size() / sizeof(float); ++i) {
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
      case Dtype::kI32:
        throw base::Error(where_ + ": " + name + ": expected F32, F16 or BF16, got " +
                          dtype_name(entry.dtype) + ".");
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

  // Linears [rows[i], k], one below the other: codes where the workspace is quantized and they were
  // not left out.
  PackedMatrix linears(const std::string& base, const std::vector<int64_t>& rows, int64_t k) {
    const int64_t n = std::accumulate(rows.begin(), rows.end(), int64_t{0});
    if (!config_.is_quantized() || has(base + ".weight")) {
      return float_matrix(base + ".weight", n, k);
    }
    PackedMatrix matrix;
    matrix.n = n;
    matrix.k = k;
    if (has(base + ".row_scales")) {
      int8_rows(base, &matrix);
    } else {
      groups(base, &matrix);
    }
    if (has(base + ".order")) orders(base + ".order", rows, &matrix);
    return matrix;
  }

  void expect_all_taken() const {
    for (const auto& [name, entry] : index_) {
      LMRUN_CHECK(taken_.contains(name), where_ << ": " << name << ": unexpected tensor.");
    }
  }

 private:
  // Codes with a scale and a zero point for each group.
  void groups(const std::string& base, PackedMatrix* matrix) {
    const int64_t k = matrix->k;
    LMRUN_CHECK(k % quant::kU4TileInputs == 0,
                where_ << ": " << base << ".qweight: expected a multiple of "
                       << quant::kU4TileInputs << " input features, got " << k << ".");
    const std::string codes = base + ".qweight";
    const int64_t words = words_of(codes);
    matrix->format = words == k / quant::kU8TileInputs ? WeightFormat::kU8 : WeightFormat::kU4;
    take_codes(codes, matrix);
    const TensorEntry& scales = find(base + ".scales");
    LMRUN_CHECK(scales.shape.size() == 3 && k % scales.shape[1] == 0 &&
                    k / scales.shape[1] % quant::kU4TileInputs == 0,
                where_ << ": " << base << ".scales: expected groups of a multiple of "
                       << quant::kU4TileInputs << " that divides " << k << " input features, got "
                       << shape_text(scales.shape) << ".");
    matrix->group_size = k / scales.shape[1];
    const std::vector<int64_t> shape = {matrix->num_tiles(), scales.shape[1], quant::kTileFeatures};
    const bool is_f32 = scales.dtype == Dtype::kF32;
    const std::byte* bytes =
        take(base + ".scales", is_f32 ? Dtype::kF32 : Dtype::kF16, shape).bytes.data();
    if (is_f32) {
      matrix->scale32 = reinterpret_cast<const float*>(bytes);
    } else {
      matrix->scale16 = reinterpret_cast<const uint16_t*>(bytes);
    }
    matrix->zero =
        reinterpret_cast<const uint8_t*>(take(base + ".zeros", Dtype::kU8, shape).bytes.data());
  }

  // int8 with a scale for each row.
  void int8_rows(const std::string& base, PackedMatrix* matrix) {
    LMRUN_CHECK(matrix->k <= quant::kMostI8Inputs,
                where_ << ": " << base << ".qweight: expected at most " << quant::kMostI8Inputs
                       << " input features, got " << matrix->k << ".");
    matrix->format = WeightFormat::kI8;
    take_codes(base + ".qweight", matrix);
    matrix->scale32 = floats(base + ".row_scales", {matrix->num_tiles(), quant::kTileFeatures});
  }

  void take_codes(const std::string& name, PackedMatrix* matrix) {
    const int64_t words = matrix->tile_bytes() / quant::kTileBytes;
    matrix->weight =
        take(name, Dtype::kU8, {matrix->num_tiles(), words, quant::kTileFeatures, 4}).bytes.data();
  }

  // Second dimension of a tensor; 0 where it has none.
  int64_t words_of(const std::string& name) {
    const TensorEntry& entry = find(name);
    return entry.shape.size() < 2 ? 0 : entry.shape[1];
  }

  // Permutations of the columns: one for all the linears, or one each.
  void orders(const std::string& name, const std::vector<int64_t>& rows, PackedMatrix* matrix) {
    const TensorEntry& found = find(name);
    const bool is_shared = found.shape.size() == 2 && found.shape[0] == 1;
    const auto count = is_shared ? int64_t{1} : static_cast<int64_t>(rows.size());
    const TensorEntry& entry = take(name, Dtype::kI32, {count, matrix->k});
    const auto* order = reinterpret_cast<const int32_t*>(entry.bytes.data());
    bool are_equal = true;
    for (int64_t i = 0; i < count; ++i) {
      check_permutation(name, {order + i * matrix->k, static_cast<size_t>(matrix->k)});
      are_equal = are_equal && std::equal(order, order + matrix->k, order + i * matrix->k);
    }
    if (are_equal) {
      matrix->num_parts = 1;
      matrix->parts[0] = {order, matrix->num_tiles()};
      return;
    }
    int64_t row = 0;
    for (int64_t i = 0; i < count; ++i) {
      row += rows[static_cast<size_t>(i)];
      LMRUN_CHECK(row % quant::kTileFeatures == 0,
                  where_ << ": " << name << ": expected one order for linears whose rows are no"
                         << " multiple of " << quant::kTileFeatures << ", got several.");
      matrix->parts[i] = {order + i * matrix->k, row / quant::kTileFeatures};
    }
    matrix->num_parts = count;
  }

  void check_permutation(const std::string& name, std::span<const int32_t> order) const {
    std::vector<bool> is_taken(order.size());
    for (const int32_t k : order) {
      const bool is_legal = k >= 0 && static_cast<size_t>(k) < order.size();
      LMRUN_CHECK(is_legal && !is_taken[static_cast<size_t>(k)],
                  where_ << ": " << name << ": expected a permutation of " << order.size()
                         << " input features, got " << k << (is_legal ? " twice." : "."));
      is_taken[static_cast<size_t>(k)] = true;
    }
  }

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
  const int64_t kv_features = config.num_kv_heads * config.head_dim;
  weights.w_qkv = binder->linears(qkv, {config.q_features(), kv_features, kv_features}, hidden);
  if (config.qkv_bias) weights.w_qkv.bias = binder->vector(qkv + ".bias", config.qkv_features());
  if (config.qk_norm) {
    weights.q_norm = binder->vector(prefix + ".attention.q_norm.weight", config.head_dim);
    weights.k_norm = binder->vector(prefix + ".attention.k_norm.weight", config.head_dim);
  }
  weights.wo = binder->linears(prefix + ".attention.wo.0", {hidden}, config.q_features());
  weights.ffn_norm = binder->vector(prefix + ".ffn_norm.weight", hidden);
  const int64_t inter = config.intermediate_size;
  weights.w13 = binder->linears(prefix + ".feed_forward.w13.0", {inter, inter}, hidden);
  weights.w2 = binder->linears(prefix + ".feed_forward.w2.0", {hidden}, inter);
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
