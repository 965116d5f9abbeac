// A small engine for the tests: its model and settings, prompts, and a run to the end.
#pragma once

#include <doctest/doctest.h>

#include <map>
#include <random>
#include <vector>

#include "engine/engine.h"
#include "temporary_folder.h"
#include "tiny_workspace.h"

namespace lmrun::testing {

using engine::Engine;
using engine::Output;
using engine::Settings;
using sampling::Params;
using Tokens = std::vector<int32_t>;

struct Model {
  TemporaryFolder folder;

  explicit Model(Kind kind = {}) { TinyWorkspace(kind).write(folder.path()); }

  Settings settings() const {
    Settings settings;
    settings.workspace = folder.path();
    settings.isa = "auto";
    settings.threads = 2;
    settings.num_blocks = 40;
    settings.block_size = 16;
    settings.kv_bits = {8};
    settings.max_num_seqs = 8;
    settings.max_batch_tokens = 32;
    settings.context_length = 96;
    settings.prefix_caching = true;
    return settings;
  }
};

inline Tokens prompt_of(int64_t size, uint32_t seed) {
  std::mt19937 random(seed);
  Tokens tokens(static_cast<size_t>(size));
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 40);
  return tokens;
}

inline Params greedy() {
  Params params;
  params.temperature = 0;
  return params;
}

// Steps until there is no work; the tokens of each request.
inline std::map<int64_t, Tokens> run(Engine* engine) {
  std::map<int64_t, Tokens> tokens;
  while (engine->has_work()) {
    for (const Output& output : engine->step()) {
      Tokens& all = tokens[output.id];
      all.insert(all.end(), output.token_ids.begin(), output.token_ids.end());
    }
    engine->check();
  }
  CHECK(engine->stats().used_blocks == 0);
  return tokens;
}

inline Tokens alone(const Settings& settings, const Tokens& prompt, const Params& params,
                    int64_t max_tokens) {
  Engine engine(settings);
  engine.submit(1, prompt, params, max_tokens);
  return run(&engine).at(1);
}

}  // namespace lmrun::testing
