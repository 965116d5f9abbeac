#include "engine/engine.h"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "engine/small_engine.h"

using lmrun::base::Error;
using lmrun::base::InvalidArgument;
using lmrun::engine::Engine;
using lmrun::engine::FinishReason;
using lmrun::engine::Output;
using lmrun::engine::Settings;
using lmrun::sampling::Params;
using lmrun::testing::alone;
using lmrun::testing::greedy;
using lmrun::testing::Kind;
using lmrun::testing::kKinds;
using lmrun::testing::Model;
using lmrun::testing::prompt_of;
using lmrun::testing::run;
using lmrun::testing::TemporaryFolder;
using lmrun::testing::TinyWorkspace;
using lmrun::testing::Tokens;

TEST_CASE("an abort ends its request and touches no other") {
  const Model model;
  const Tokens expected = alone(model.settings(), prompt_of(30, 1), greedy(), 30);
  Engine engine(model.settings());
  for (int64_t id = 0; id < 4; ++id)
    engine.submit(id, prompt_of(30, static_cast<uint32_t>(id)), greedy(), 30);
  for (int i = 0; i < 5; ++i) engine.step();
  engine.abort(0);
  engine.abort(3);
  engine.abort(3);
  engine.abort(77);
  int aborted = 0;
  for (const Output& output : engine.step()) {
    aborted += output.finish_reason == FinishReason::kAbort ? 1 : 0;
  }
  CHECK(aborted == 2);
  Engine whole(model.settings());
  whole.submit(1, prompt_of(30, 1), greedy(), 30);
  CHECK(run(&whole).at(1) == expected);
  run(&engine);
  engine.submit(0, prompt_of(4, 0), greedy(), 2);  // the id is free again
  engine.abort(0);
  const std::vector<Output> outputs = engine.step();
  REQUIRE(outputs.size() == 1);
  CHECK(outputs[0].token_ids.empty());
  CHECK_FALSE(engine.has_work());
}

TEST_CASE("finish reasons: a stop id, max_tokens, the context length, the pool") {
  const Model model;
  const Tokens prompt = prompt_of(10, 2);
  const Tokens tokens = alone(model.settings(), prompt, greedy(), 8);
  REQUIRE(tokens.size() == 8);
  const auto finish = [&](const Settings& settings, Params params, std::optional<int64_t> most,
                          size_t* count) {
    Engine engine(settings);
    engine.submit(1, prompt, params, most);
    *count = 0;
    std::optional<FinishReason> reason;
    while (engine.has_work()) {
      for (const Output& output : engine.step()) {
        *count += output.token_ids.size();
        reason = output.finish_reason;
      }
    }
    return reason;
  };
  size_t count = 0;
  Params params = greedy();
  params.stop_token_ids = {tokens[0]};
  CHECK(finish(model.settings(), params, 8, &count) == FinishReason::kStop);
  CHECK(count == 1);
  params.min_tokens = 3;
  finish(model.settings(), params, 8, &count);
  CHECK(count >= 4);
  CHECK(finish(model.settings(), greedy(), 5, &count) == FinishReason::kLength);
  CHECK(count == 5);
  CHECK(finish(model.settings(), greedy(), std::nullopt, &count) == FinishReason::kLength);
  CHECK(count == 96 - 10);
  Settings small = model.settings();
  small.num_blocks = 2;
  CHECK(finish(small, greedy(), std::nullopt, &count) == FinishReason::kLength);
  CHECK(count == 32 - 10);
}

TEST_CASE("requests that cannot run are refused when they are submitted") {
  const Model model;
  Engine engine(model.settings());
  const auto refuse = [&](const Tokens& prompt, const char* message) {
    CHECK_THROWS_WITH_AS(engine.submit(1, prompt, greedy(), 4), message, InvalidArgument);
  };
  refuse({}, "prompt: expected at least one token.");
  refuse({40}, "prompt: token id 40: expected 0 to 39.");
  refuse({-1}, "prompt: token id -1: expected 0 to 39.");
  refuse(Tokens(97), "prompt: 97 tokens; the context length is 96.");
  refuse(Tokens(96), "prompt: 96 tokens leave no room for a completion: 96 fit.");
  CHECK_THROWS_WITH_AS(engine.submit(1, {1}, greedy(), 0), "max_tokens=0: expected at least 1.",
                       InvalidArgument);
  Params params = greedy();
  params.min_tokens = 5;
  CHECK_THROWS_WITH_AS(engine.submit(1, {1}, params, 4),
                       "min_tokens=5: expected at most max_tokens (4).", InvalidArgument);
  CHECK_THROWS_WITH_AS(engine.score(1, {1}), "score: expected at least two tokens.",
                       InvalidArgument);
  CHECK_FALSE(engine.has_work());
  engine.submit(1, {1}, greedy(), 4);
  CHECK_THROWS_WITH_AS(engine.submit(1, {1}, greedy(), 4), "id 1: in use.", InvalidArgument);
  CHECK_THROWS_WITH_AS(engine.logits({1, 2}), "logits: other requests run.", Error);
  Settings small = model.settings();
  small.num_blocks = 1;
  Engine tight(small);
  CHECK_THROWS_WITH_AS(tight.submit(1, Tokens(17), greedy(), 4),
                       "prompt: 17 tokens; the KV cache holds 16.", InvalidArgument);
}

TEST_CASE("settings that are not legal are refused with what is") {
  const Model model;
  const auto refuse = [&](auto change, const char* message) {
    Settings settings = model.settings();
    change(&settings);
    CHECK_THROWS_WITH_AS(Engine{settings}, message, InvalidArgument);
  };
  refuse([](Settings* s) { s->kv_bits = {5}; }, "kv_bits=5: expected 32, 16, 8 or 4.");
  refuse([](Settings* s) { s->kv_bits = {8, 3}; }, "kv_bits=3: expected 32, 16, 8 or 4.");
  refuse([](Settings* s) { s->kv_bits = {8, 8, 4}; },
         "kv_bits: expected one number, or one for each of the 2 layers, got 3.");
  refuse([](Settings* s) { s->kv_bits = {}; },
         "kv_bits: expected one number, or one for each of the 2 layers, got 0.");
  refuse([](Settings* s) { s->block_size = 24; }, "block_size=24: expected a multiple of 16.");
  refuse([](Settings* s) { s->context_length = 97; },
         "context_length=97: expected 1 to 96, the context length of the model.");
  refuse([](Settings* s) { s->threads = 0; }, "threads=0: expected 1 to 1024.");
  refuse([](Settings* s) { s->weight_memory = "disk"; },
         "weight_memory=disk: expected auto, huge_pages or mapped.");
  refuse([](Settings* s) { s->num_blocks = 0; }, "num_blocks=0: expected 1 to 2147483647.");
  refuse([](Settings* s) { s->max_batch_tokens = 7; },
         "max_batch_tokens=7: expected at least max_num_seqs (8): a step takes one token of every "
         "running sequence.");
}

TEST_CASE("submits, aborts and questions from other threads do not disturb the steps") {
  const Model model;
  Settings settings = model.settings();
  settings.num_blocks = 12;
  Engine engine(settings);
  constexpr int kPerThread = 40;
  std::vector<std::thread> clients;
  for (int client = 0; client < 3; ++client) {
    clients.emplace_back([&engine, client] {
      std::mt19937 random(static_cast<uint32_t>(client));
      for (int i = 0; i < kPerThread; ++i) {
        const int64_t id = client * 1000 + i;
        engine.submit(id, prompt_of(1 + static_cast<int64_t>(random() % 40), random() % 3),
                      greedy(), 1 + static_cast<int64_t>(random() % 20));
        if (random() % 2 == 0) engine.abort(id);
        engine.stats();
      }
    });
  }
  std::map<int64_t, int> ended;
  while (ended.size() < 3 * kPerThread) {
    for (const Output& output : engine.step()) {
      if (output.finish_reason) ++ended[output.id];
    }
    engine.check();
  }
  for (std::thread& client : clients) client.join();
  for (const auto& [id, count] : ended) CHECK(count == 1);
  CHECK_FALSE(engine.has_work());
  CHECK(engine.step().empty());
  CHECK(engine.stats().used_blocks == 0);
}

TEST_CASE("logits that are not finite end their request and touch no other") {
  const TemporaryFolder folder;
  TinyWorkspace tiny;
  // The embedding of token 7: [tile 0][k][feature 7].
  auto& bytes = tiny.tensor("tok_embeddings.weight").bytes;
  const float bad = std::numeric_limits<float>::quiet_NaN();
  for (size_t k = 0; k < 32; ++k) std::memcpy(bytes.data() + (k * 16 + 7) * 4, &bad, 4);
  tiny.write(folder.path());
  Settings settings = Model().settings();
  settings.workspace = folder.path();
  Tokens good = prompt_of(30, 1);
  std::erase(good, 7);
  Tokens spoilt = good;
  spoilt[12] = 7;
  spoilt.back() = 7;
  for (const int64_t budget : {8, 96}) {
    settings.max_batch_tokens = budget;
    Params params = greedy();
    params.logit_bias = {{7, -1000.0F}};  // not to be chosen
    const Tokens expected = alone(settings, good, params, 6);
    Engine engine(settings);
    engine.submit(1, spoilt, params, 6);
    engine.submit(2, good, params, 6);
    engine.score(3, spoilt, {1, 0, 5});
    engine.score(4, good);
    std::map<int64_t, Output> ends;
    Tokens tokens;
    while (engine.has_work()) {
      for (Output& output : engine.step()) {
        if (output.id == 2) {
          tokens.insert(tokens.end(), output.token_ids.begin(), output.token_ids.end());
        }
        if (output.finish_reason) ends[output.id] = std::move(output);
      }
      engine.check();
    }
    CHECK(tokens == expected);
    CHECK(ends.at(2).error.empty());
    CHECK(ends.at(4).scores->logprobs.size() == good.size() - 1);
    const std::string message =
        "logits: expected finite numbers, the model gave others at position ";
    CHECK(ends.at(1).finish_reason == FinishReason::kError);
    CHECK(ends.at(1).error == message + std::to_string(good.size() - 1) + ".");
    CHECK(ends.at(3).finish_reason == FinishReason::kError);
    CHECK(ends.at(3).error == message + "12.");
    CHECK_FALSE(ends.at(3).scores);
    CHECK(engine.stats().used_blocks == 0);
    engine.submit(1, good, params, 6);  // the id is free, the blocks it spoilt are clean
    CHECK(run(&engine).at(1) == expected);
  }
}

TEST_CASE("steps are counted by what they compute, with the context they read") {
  const Model model;
  Settings settings = model.settings();
  settings.prefix_caching = false;
  Engine engine(settings);
  engine.submit(1, prompt_of(40, 1), greedy(), 4);
  run(&engine);  // 32 and 8 prompt tokens, then 3 steps that read 40, 41 and 42 positions
  auto stats = engine.stats();
  CHECK(stats.num_steps == 5);
  CHECK(stats.prefill.steps == 1);  // 8 tokens are less than half of the budget of 32
  CHECK(stats.prefill.tokens == 32);
  CHECK(stats.decode_one.steps == 3);
  CHECK(stats.decode_one.tokens == 3);
  CHECK(stats.decode_one.context == 40 + 41 + 42);
  CHECK(stats.decode.steps == 3);
  CHECK(stats.peak_used_blocks == 3);
  CHECK(stats.touched_blocks == 3);

  engine.submit(2, prompt_of(5, 2), greedy(), 3);
  engine.submit(3, prompt_of(6, 3), greedy(), 3);
  run(&engine);  // both prompts in one step, then two steps of two sequences
  stats = engine.stats();
  CHECK(stats.decode_one.steps == 3);
  CHECK(stats.decode.steps == 5);
  CHECK(stats.decode.seqs == 3 + 4);
  CHECK(stats.decode.context == 40 + 41 + 42 + 5 + 6 + 6 + 7);
  CHECK(stats.touched_blocks == 5);
  CHECK(stats.peak_used_blocks == 3);
  CHECK(stats.decode_one.seconds > 0);
  CHECK(stats.decode.seconds > stats.decode_one.seconds);
  CHECK(stats.step_seconds > stats.decode.seconds + stats.prefill.seconds);
}

TEST_CASE("prompt tokens beside a decode, and scores, are no measure of prefill") {
  const Model model;
  Engine engine(model.settings());
  engine.score(1, prompt_of(32, 1));
  run(&engine);
  engine.submit(2, prompt_of(4, 2), greedy(), 6);
  engine.step();
  engine.step();
  engine.submit(3, prompt_of(30, 3), greedy(), 1);
  run(&engine);
  CHECK(engine.stats().prefill.steps == 0);
  CHECK(engine.stats().decode_one.steps == 4);
}

TEST_CASE("weights are resident from the start, KV blocks when they are used") {
  const Model model;
  for (const char* memory : {"mapped", "auto"}) {
    Settings settings = model.settings();
    settings.weight_memory = memory;
    Engine engine(settings);
    engine.wait_for_weights();
    const auto before = engine.residency();
    if (!before.weights_bytes) return;  // the system does not say
    engine.submit(1, prompt_of(40, 1), greedy(), 4);
    run(&engine);
    const auto after = engine.residency();
    CHECK(*before.weights_bytes > 0);
    CHECK(*after.weights_bytes == *before.weights_bytes);
    CHECK(*before.kv_bytes == 0);
    CHECK(*after.kv_bytes > 0);
    const bool is_copied = engine.effective_settings().weight_memory == "huge_pages";
    CHECK(is_copied == (std::string(memory) == "auto" && engine.why_mapped().empty()));
    if (is_copied) CHECK(*after.weights_huge_bytes == *after.weights_bytes);
  }
}

TEST_CASE("weights in huge pages and in the mapped file give the same logits") {
  for (const Kind kind : kKinds) {
    const Model model(kind);
    const Tokens tokens = prompt_of(50, 3);
    Settings settings = model.settings();
    settings.weight_memory = "mapped";
    const std::vector<float> expected = Engine(settings).logits(tokens);
    settings.weight_memory = "auto";
    Engine engine(settings);
    CHECK(engine.logits(tokens) == expected);  // while they move
    engine.wait_for_weights();
    CHECK(engine.logits(tokens) == expected);
  }
}
