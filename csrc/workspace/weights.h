// The tensors of a model, as views of a workspace file.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "quant/layout.h"
#include "workspace/model_config.h"

namespace lmrun::workspace {

struct LayerWeights {
  quant::PackedMatrix w_qkv;  // q, k, v rows; bias where the model has one
  quant::PackedMatrix wo;
  quant::PackedMatrix w13;  // gate rows, then up rows
  quant::PackedMatrix w2;
  const float* attention_norm = nullptr;  // [hidden]
  const float* ffn_norm = nullptr;        // [hidden]
  const float* q_norm = nullptr;          // [head_dim] or null
  const float* k_norm = nullptr;          // [head_dim] or null
};

// Valid while the bytes they were read from are.
struct Weights {
  quant::PackedMatrix tok_embeddings;
  quant::PackedMatrix output;       // the embeddings where they are tied
  const float* norm = nullptr;      // [hidden]
  const float* inv_freq = nullptr;  // [head_dim / 2]
  std::vector<LayerWeights> layers;
};

// Views the tensors in the bytes of rank-0.safetensors, which are not trusted: every expected
// tensor must be there in its dtype and shape, and no other. Vectors must be finite. `where` begins
// each message. Throws base::Error.
Weights read_weights(const ModelConfig& config, std::span<const std::byte> file,
                     const std::string& where);

}  // namespace lmrun::workspace
