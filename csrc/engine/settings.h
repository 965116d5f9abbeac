// Launch settings of an engine; lmrun/plan/engine_settings.py is the twin.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "quant/layout.h"
#include "workspace/model_config.h"

namespace lmrun::engine {

struct Settings {
  std::string workspace;  // folder
  std::string isa;        // "auto" or a name; the resolved name in effective settings
  int64_t threads = 1;
  int64_t num_blocks = 1;
  int64_t block_size = 16;              // tokens
  std::vector<int64_t> kv_bits = {16};  // of all layers, or one a layer
  int64_t activation_bits = 32;         // of the inputs of codes in groups: 32, 16 or 8
  int64_t max_num_seqs = 1;
  int64_t max_batch_tokens = 1;
  int64_t context_length = 1;  // longest prompt plus completion, in tokens
  bool prefix_caching = true;
  // Where the weights are: "mapped" (the pages of the file, shared by all engines that map it),
  // "huge_pages" (a copy of this engine's own in pages of 2 MiB, or an error), "auto": huge pages
  // where the system gives them and memory suffices. What was chosen in effective settings.
  std::string weight_memory = "auto";
};

// Throws base::InvalidArgument naming the setting and what is legal.
void check_settings(const Settings& settings, const workspace::ModelConfig& model);

// One a layer.
std::vector<quant::KvLayout> kv_layouts(const Settings& settings,
                                        const workspace::ModelConfig& model);

}  // namespace lmrun::engine
