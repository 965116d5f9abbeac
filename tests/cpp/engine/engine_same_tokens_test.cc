#include <doctest/doctest.h>

#include <cstring>
#include <map>
#include <random>
#include <vector>

#include "engine/engine.h"
#include "engine/small_engine.h"

using lmrun::engine::Engine;
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
using lmrun::testing::Tokens;

TEST_CASE("a request gives the same tokens alone, in a batch, in any chunks, on any threads") {
  for (const Kind kind : kKinds) {
    const Model model(kind);
    for (const char* isa : {"generic", "auto"}) {
      Settings base = model.settings();
      base.isa = isa;
      base.threads = 1;
      base.prefix_caching = false;
      base.max_batch_tokens = 96;
      std::vector<Tokens> prompts;
      std::vector<Tokens> expected;
      for (uint32_t i = 0; i < 6; ++i) {
        prompts.push_back(prompt_of(3 + 9 * i, i));
        Params params = greedy();
        if (i % 2 == 1) {
          params.temperature = 1;
          params.seed = i;
        }
        expected.push_back(alone(base, prompts.back(), params, 12 + i));
      }
      for (const int64_t budget : {8, 13, 32, 96}) {
        Settings settings = base;
        settings.threads = budget % 2 == 0 ? 2 : 1;
        settings.prefix_caching = budget != 32;
        settings.max_batch_tokens = budget;
        Engine engine(settings);
        for (uint32_t i = 0; i < 6; ++i) {
          Params params = greedy();
          if (i % 2 == 1) {
            params.temperature = 1;
            params.seed = i;
          }
          engine.submit(i, prompts[i], params, 12 + i);
        }
        const auto tokens = run(&engine);
        for (uint32_t i = 0; i < 6; ++i) CHECK(tokens.at(i) == expected[i]);
      }
    }
  }
}

TEST_CASE("logits are the same bits in any chunks and blocks and on any threads") {
  const Tokens tokens = prompt_of(90, 5);
  for (const Kind kind : kKinds) {
    const Model model(kind);
    for (const int64_t bits : {32, 16, 8, 4}) {
      for (const char* isa : {"generic", "auto"}) {
        Settings settings = model.settings();
        settings.kv_bits = {bits};
        settings.activation_bits = bits == 4 ? 8 : bits == 8 ? 16 : 32;
        settings.isa = isa;
        settings.threads = 1;
        settings.max_batch_tokens = 96;
        const std::vector<float> expected = Engine(settings).logits(tokens);
        for (const int64_t budget : {8, 13, 21, 96}) {
          settings.threads = 1 + budget % 2;
          settings.block_size = budget == 21 ? 48 : 16;
          settings.max_batch_tokens = budget;
          const std::vector<float> got = Engine(settings).logits(tokens);
          REQUIRE(got.size() == expected.size());
          CHECK(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0);
        }
      }
    }
  }
}

TEST_CASE("a context split over threads gives the same bits as one thread, token by token or not") {
  constexpr int64_t kLength = 1100;  // three spans of attention
  Kind kind;
  kind.context_length = kLength;
  const Model model(kind);
  const Tokens tokens = prompt_of(kLength, 7);
  for (const int64_t bits : {16, 4}) {
    for (const char* isa : {"generic", "auto"}) {
      Settings settings = model.settings();
      settings.context_length = kLength;
      settings.num_blocks = 80;
      settings.kv_bits = {bits};
      settings.isa = isa;
      settings.max_num_seqs = 1;
      settings.threads = 1;
      settings.max_batch_tokens = 256;
      const std::vector<float> expected = Engine(settings).logits(tokens);
      for (const int64_t threads : {1, 2, 3}) {
        settings.threads = threads;
        settings.max_batch_tokens = 1;
        const std::vector<float> got = Engine(settings).logits(tokens);
        REQUIRE(got.size() == expected.size());
        CHECK(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("layers may keep keys and values in bits of their own") {
  const Tokens tokens = prompt_of(90, 5);
  const Model model;
  std::vector<std::vector<float>> all;
  const std::vector<std::vector<int64_t>> mixes = {{4, 16}, {16, 4}, {8, 32}, {32, 8}, {4, 8}};
  for (const std::vector<int64_t>& bits : mixes) {
    Settings settings = model.settings();
    settings.kv_bits = bits;
    settings.threads = 1;
    settings.max_batch_tokens = 96;
    const Engine engine(settings);
    CHECK(engine.effective_settings().kv_bits == bits);
    const std::vector<float> expected = Engine(settings).logits(tokens);
    settings.threads = 2;
    settings.max_batch_tokens = 13;
    settings.block_size = 48;
    const std::vector<float> got = Engine(settings).logits(tokens);
    REQUIRE(got.size() == expected.size());
    CHECK(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0);
    for (const std::vector<float>& other : all) CHECK(other != expected);
    all.push_back(expected);
  }
  // One number for all is the same as that number for each.
  Settings settings = model.settings();
  settings.kv_bits = {4, 4};
  Engine listed(settings);
  CHECK(listed.effective_settings().kv_bits == std::vector<int64_t>{4});
  const std::vector<float> expected = listed.logits(tokens);
  settings.kv_bits = {4};
  CHECK(Engine(settings).logits(tokens) == expected);
}

TEST_CASE("preemption changes no token") {
  const Model model;
  std::vector<Tokens> expected;
  for (uint32_t i = 0; i < 5; ++i) {
    expected.push_back(alone(model.settings(), prompt_of(20, i), greedy(), 40));
  }
  Settings settings = model.settings();
  settings.num_blocks = 9;
  for (const bool prefix_caching : {false, true}) {
    settings.prefix_caching = prefix_caching;
    Engine engine(settings);
    for (uint32_t i = 0; i < 5; ++i) engine.submit(i, prompt_of(20, i), greedy(), 40);
    const auto tokens = run(&engine);
    for (uint32_t i = 0; i < 5; ++i) CHECK(tokens.at(i) == expected[i]);
    CHECK(engine.stats().preemptions > 0);
  }
}

TEST_CASE("scores, aborts, shared prefixes and preemptions change no bit of what others get") {
  const Model model;
  Settings settings = model.settings();
  settings.kv_bits = {4, 16};
  Settings solo = settings;
  solo.threads = 1;
  solo.prefix_caching = false;
  Params params = greedy();
  params.logprobs = 0;
  const auto sampled = [&params](int64_t i) {
    Params own = params;
    own.temperature = static_cast<float>(i % 3);
    own.seed = static_cast<uint64_t>(i);
    return own;
  };
  // Two families of prompts that share their first blocks; every fourth request is a score.
  const auto prompt = [](int64_t i) {
    Tokens tokens = prompt_of(33, static_cast<uint32_t>(i % 2));
    const Tokens tail = prompt_of(1 + i % 23, static_cast<uint32_t>(100 + i));
    tokens.insert(tokens.end(), tail.begin(), tail.end());
    return tokens;
  };
  constexpr int64_t kRequests = 24;
  const auto add = [&](Engine* engine, int64_t i) {
    if (i % 4 == 3) {
      engine->score(i, prompt(i));
    } else {
      engine->submit(i, prompt(i), sampled(i), 5 + i);
    }
  };
  const auto numbers = [](Engine* engine, auto&& each_step) {
    std::map<int64_t, std::vector<float>> got;
    while (engine->has_work()) {
      each_step();
      for (const Output& output : engine->step()) {
        std::vector<float>& all = got[output.id];
        all.insert(all.end(), output.token_ids.begin(), output.token_ids.end());
        all.insert(all.end(), output.logprobs.begin(), output.logprobs.end());
        if (output.scores) {
          const std::vector<float>& logprobs = output.scores->logprobs;
          all.insert(all.end(), logprobs.begin(), logprobs.end());
        }
      }
      engine->check();
    }
    return got;
  };
  std::vector<std::vector<float>> expected;
  for (int64_t i = 0; i < kRequests; ++i) {
    Engine engine(solo);
    add(&engine, i);
    expected.push_back(numbers(&engine, [] {}).at(i));
  }
  for (const int64_t num_blocks : {7, 12, 40}) {
    settings.num_blocks = num_blocks;
    settings.max_batch_tokens = 8 + num_blocks;
    Engine engine(settings);
    std::mt19937 random(static_cast<uint32_t>(num_blocks));
    int64_t next = 0;
    const auto client = [&] {
      while (next < kRequests && random() % 3 != 0) {
        add(&engine, next);
        if (next % 5 == 1) engine.submit(1000 + next, prompt(next), sampled(next), 40);
        ++next;
      }
      engine.abort(1000 + static_cast<int64_t>(random() % kRequests));
    };
    client();
    engine.submit(2000, {1}, params, 80);  // keeps the loop going until all are in
    const auto got = numbers(&engine, client);
    REQUIRE(next == kRequests);
    for (int64_t i = 0; i < kRequests; ++i) CHECK(got.at(i) == expected[static_cast<size_t>(i)]);
    CHECK((engine.stats().preemptions > 0) == (num_blocks < 40));
    CHECK(engine.stats().cached_tokens > 0);
    CHECK(engine.stats().used_blocks == 0);
  }
}

TEST_CASE("a cached prefix changes no token and is reported") {
  const Model model;
  const Tokens prompt = prompt_of(40, 5);
  Engine engine(model.settings());
  engine.submit(1, prompt, greedy(), 10);
  const Tokens first = run(&engine).at(1);
  engine.submit(2, prompt, greedy(), 10);
  const std::vector<Output> outputs = engine.step();
  REQUIRE(outputs.size() == 1);
  CHECK(outputs[0].num_cached_tokens == 32);
  Tokens second = outputs[0].token_ids;
  const Tokens rest = run(&engine).at(2);
  second.insert(second.end(), rest.begin(), rest.end());
  CHECK(second == first);
  CHECK(engine.stats().cached_tokens == 32);
}
