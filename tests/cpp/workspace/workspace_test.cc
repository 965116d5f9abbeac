#include "workspace/workspace.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "temporary_folder.h"
#include "tiny_workspace.h"
#include "workspace/safetensors.h"

using lmrun::base::Error;
using lmrun::quant::WeightFormat;
using lmrun::testing::Kind;
using lmrun::testing::Stored;
using lmrun::testing::TemporaryFolder;
using lmrun::testing::TestTensor;
using lmrun::testing::TinyWorkspace;
using lmrun::workspace::ModelConfig;
using lmrun::workspace::parse_model_config;
using lmrun::workspace::read_safetensors;
using lmrun::workspace::read_weights;
using lmrun::workspace::Workspace;

namespace {

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

void refuse_tensors(TinyWorkspace workspace, const std::string& message) {
  const ModelConfig config = parse_model_config(workspace.model_json(), "model.json");
  const std::vector<std::byte> file = workspace.file();
  CHECK_THROWS_WITH_AS(read_weights(config, file, "rank-0"), message.c_str(), Error);
}

void refuse_file(const std::vector<std::byte>& file, const std::string& message) {
  CHECK_THROWS_WITH_AS(read_safetensors(file, "rank-0"), message.c_str(), Error);
}

// A file of 2 MiB with this header and zeros behind it.
std::vector<std::byte> file_of(std::string header) {
  header.resize(1024 - 8, ' ');
  return TinyWorkspace::with_header(header, std::vector<std::byte>((size_t{2} << 20) - 1024));
}

const std::string kRest =
    R"("__pad__.9":{"dtype":"U8","shape":[2096064],"data_offsets":[64,2096128]})";

}  // namespace

TEST_CASE("a workspace is mapped and its tensors are viewed where they lie") {
  const TemporaryFolder folder;
  TinyWorkspace tiny;
  tiny.write(folder.path());
  const Workspace workspace = Workspace::open(folder.path());
  CHECK(workspace.config().num_kv_heads == 2);
  CHECK(workspace.config().eos_token_ids == std::vector<int32_t>{2});
  const auto& weights = workspace.weights();
  REQUIRE(weights.layers.size() == 2);
  const auto& w13 = weights.layers[1].w13;
  CHECK(w13.format == WeightFormat::kF32);
  CHECK(w13.n == 128);
  CHECK(w13.k == 32);
  CHECK(reinterpret_cast<uintptr_t>(w13.weight) % 64 == 0);
  const TestTensor& tensor = tiny.tensor("layers.1.feed_forward.w13.0.weight");
  CHECK(std::memcmp(w13.weight, tensor.bytes.data(), tensor.bytes.size()) == 0);
}

TEST_CASE("a quantized workspace has codes, scales and zeros, and may leave a linear as it was") {
  TinyWorkspace tiny({Stored::kU4});
  ModelConfig config = parse_model_config(tiny.model_json(), "model.json");
  std::vector<std::byte> file = tiny.file();
  const auto weights = read_weights(config, file, "rank-0");
  CHECK(weights.layers[0].wo.format == WeightFormat::kU4);
  CHECK(weights.layers[0].wo.group_size == 32);
  CHECK(weights.output.format == WeightFormat::kF32);

  const TinyWorkspace plain;
  for (const char* part : {".qweight", ".scales", ".zeros"}) {
    std::erase_if(tiny.tensors(), [&](const TestTensor& tensor) {
      return tensor.name == std::string("layers.0.attention.wo.0") + part;
    });
  }
  TinyWorkspace source;
  tiny.tensors().push_back(source.tensor("layers.0.attention.wo.0.weight"));
  file = tiny.file();
  CHECK(read_weights(config, file, "rank-0").layers[0].wo.format == WeightFormat::kF32);
}

TEST_CASE("each field of model.json is checked") {
  const std::vector<std::vector<std::string>> wrong = {
      {R"("lmrun-workspace")", R"("other")", "m.format: expected lmrun-workspace, got other."},
      {R"("schema_version": 2)", R"("schema_version": 3)",
       "m.schema_version: this engine reads 1 and 2, got 3. Build the workspace again."},
      {R"("schema_version": 2)", R"("schema_version": 1)",
       "m.weights.activation_bits: unknown field."},
      {R"("cpu-tile16")", R"("cuda")", "m.layout: expected cpu-tile16, got cuda."},
      {R"("tp": 1)", R"("tp": 2)", "m.tp: expected 1, got 2; tensor parallelism is not built yet."},
      {R"("hidden_size": 32)", R"("hidden_size": 0)",
       "m.hidden_size: expected an integer from 1 to 1048576, got 0."},
      {R"("hidden_size": 32)", R"("hidden_size": 32.5)",
       "m.hidden_size: expected an integer from 1 to 1048576."},
      {R"("vocab_size": 40)", R"("vocab_size": 99999999)",
       "m.vocab_size: expected an integer from 1 to 16777216, got 99999999."},
      {R"("num_heads": 4)", R"("num_heads": 5)",
       "m.num_heads: expected a multiple of num_kv_heads (2), got 5."},
      {R"("num_heads": 4)", R"("num_heads": 1000000)",
       "m: a projection has more than 1048576 features."},
      {R"("head_dim": 8)", R"("head_dim": 7)", "m.head_dim: expected an even number, got 7."},
      {R"("rms_norm_eps": 1e-05)", R"("rms_norm_eps": 0)",
       "m.rms_norm_eps: expected a positive number."},
      {R"("attention_scale": 0.35)", R"("attention_scale": "x")",
       "m.attention_scale: expected a positive number."},
      {R"("rope_attention_factor": 1.0)", R"("rope_attention_factor": 1e300)",
       "m.rope_attention_factor: expected a positive number."},
      {R"("qkv_bias": false)", R"("qkv_bias": 0)", "m.qkv_bias: expected true or false."},
      {R"("bos_token_id": 1)", R"("bos_token_id": 40)",
       "m.bos_token_id: expected a token id below 40."},
      {R"("eos_token_ids": [2])", R"("eos_token_ids": [-1])",
       "m.eos_token_ids: expected a token id below 40."},
      {R"("eos_token_ids": [2])", R"("eos_token_ids": 2)", "m.eos_token_ids: expected an array."},
      {R"("method": "none", "bits": 32)", R"("method": "none", "bits": 8)",
       "m.weights.bits: expected 16 or 32 where the method is none, got 8."},
      {R"("method": "none")", R"("method": "awq")", "m.weights.bits: expected 4 or 8, got 32."},
      {R"("bits": 32, "group_size": 0)", R"("bits": 32, "group_size": 64)",
       "m.weights.group_size: expected 0 where the method is none, got 64."},
      {R"("method": "none", "bits": 32, "group_size": 0)",
       R"("method": "awq", "bits": 4, "group_size": 36)",
       "m.weights.group_size: expected a multiple of 8, or 0 for whole rows, got 36."},
      {R"("activation_bits": 16)", R"("activation_bits": 8)",
       "m.weights.activation_bits: expected 16 where the method is none, got 8."},
      {R"("method": "none", "bits": 32, "group_size": 0, "symmetric": false, "activation_bits": 16)",
       R"("method": "rtn", "bits": 8, "group_size": 0, "symmetric": false, "activation_bits": 4)",
       "m.weights.activation_bits: expected 16 or 8, got 4."},
      {R"("method": "none", "bits": 32, "group_size": 0, "symmetric": false, "activation_bits": 16)",
       R"("method": "rtn", "bits": 4, "group_size": 0, "symmetric": false, "activation_bits": 8)",
       "m.weights.activation_bits: 8 needs bits 8 and group_size 0."},
      {R"("architecture": "LlamaForCausalLM")", R"("architecture": "")", "m.architecture: empty."},
      {R"("source": {"checkpoint": "seed"})", R"("source": 1)", "m.source: expected an object."},
      {R"("tp": 1,)", R"("tp": 1, "extra": 1,)", "m.extra: unknown field."},
      {R"("tp": 1,)", "", "m.tp: missing."},
      {R"({"format")", R"(["format")", "m: JSON: line 1, column 10: expected ','."},
  };
  const std::string good = TinyWorkspace().model_json();
  parse_model_config(good, "m");
  for (const auto& change : wrong) {
    CAPTURE(change[1]);
    CHECK_THROWS_WITH_AS(parse_model_config(replaced(good, change[0], change[1]), "m"),
                         change[2].c_str(), Error);
  }
  CHECK_FALSE(
      parse_model_config(replaced(good, R"("bos_token_id": 1)", R"("bos_token_id": null)"), "m")
          .bos_token_id.has_value());
}

TEST_CASE("a tensor that is missing, unexpected or not what it should be is named") {
  TinyWorkspace missing;
  std::erase_if(missing.tensors(), [](const TestTensor& t) { return t.name == "norm.weight"; });
  refuse_tensors(missing, "rank-0: norm.weight: missing.");

  TinyWorkspace extra;
  extra.tensors().push_back(extra.tensor("norm.weight"));
  extra.tensors().back().name = "stray";
  refuse_tensors(extra, "rank-0: stray: unexpected tensor.");

  TinyWorkspace shape;
  shape.tensor("layers.1.attention.wo.0.weight").shape = {2, 16, 32};
  refuse_tensors(shape,
                 "rank-0: layers.1.attention.wo.0.weight: expected F32 [2, 32, 16], got F32 "
                 "[2, 16, 32].");

  TinyWorkspace dtype;
  dtype.tensor("rope.inv_freq").dtype = "F16";
  dtype.tensor("rope.inv_freq").shape = {8};
  refuse_tensors(dtype, "rank-0: rope.inv_freq: expected F32 [4], got F16 [8].");

  TinyWorkspace bytes;
  bytes.tensor("output.weight").dtype = "U8";
  bytes.tensor("output.weight").shape = {3 * 32 * 64};
  refuse_tensors(bytes, "rank-0: output.weight: expected F32, F16 or BF16, got U8.");

  TinyWorkspace infinite;
  const float value = std::numeric_limits<float>::infinity();
  std::memcpy(infinite.tensor("norm.weight").bytes.data() + 12, &value, 4);
  refuse_tensors(infinite, "rank-0: norm.weight: element 3 is not finite.");
}

TEST_CASE("a workspace of version 1 is read") {
  const TinyWorkspace tiny({Stored::kU4});
  std::string json =
      replaced(tiny.model_json(), R"("schema_version": 2)", R"("schema_version": 1)");
  json = replaced(json, R"(, "activation_bits": 16)", "");
  const ModelConfig config = parse_model_config(json, "m");
  CHECK(config.activation_bits == 16);
  const std::vector<std::byte> file = tiny.file();
  CHECK(read_weights(config, file, "rank-0").layers[1].w2.format == WeightFormat::kU4);
  CHECK_THROWS_WITH_AS(parse_model_config(replaced(json, R"("bits": 4)", R"("bits": 8)"), "m"),
                       "m.weights.bits: expected 4, got 8.", Error);
  CHECK_THROWS_WITH_AS(
      parse_model_config(replaced(json, R"("group_size": 32)", R"("group_size": 0)"), "m"),
      "m.weights.group_size: expected a positive multiple of 8, got 0.", Error);
}

TEST_CASE("the tensors beside the codes tell the format of a matrix") {
  const auto w2_of = [](Kind kind) {
    const TinyWorkspace tiny(kind);
    static std::vector<std::byte> file;  // the views outlive this call
    file = tiny.file();
    return read_weights(parse_model_config(tiny.model_json(), "m"), file, "rank-0").layers[0].w2;
  };
  const auto u8 = w2_of({Stored::kU8});
  CHECK(u8.format == WeightFormat::kU8);
  CHECK(u8.group_size == 8);
  CHECK(u8.scale16 == nullptr);
  CHECK(u8.scale32 != nullptr);
  CHECK(u8.num_parts == 0);
  const auto i8 = w2_of({Stored::kI8});
  CHECK(i8.format == WeightFormat::kI8);
  CHECK(i8.num_groups() == 0);
  const auto ordered = w2_of({Stored::kU4, true});
  CHECK(ordered.format == WeightFormat::kU4);
  CHECK(ordered.num_parts == 1);
  CHECK(ordered.parts[0].tile_end == 2);
}

TEST_CASE("linears of a matrix have an order each, or one that all share") {
  TinyWorkspace tiny({Stored::kU4, true});
  const ModelConfig config = parse_model_config(tiny.model_json(), "m");
  std::vector<std::byte> file = tiny.file();
  const auto qkv = read_weights(config, file, "rank-0").layers[0].w_qkv;
  REQUIRE(qkv.num_parts == 3);
  CHECK(qkv.parts[0].tile_end == 2);
  CHECK(qkv.parts[1].tile_end == 3);
  CHECK(qkv.parts[2].tile_end == 4);
  CHECK(qkv.parts[1].order == qkv.parts[0].order + 32);

  TestTensor& order = tiny.tensor("layers.0.attention.w_qkv.0.order");
  for (int part = 1; part < 3; ++part) {
    std::copy_n(order.bytes.begin(), 32 * 4, order.bytes.begin() + part * 32 * 4);
  }
  file = tiny.file();
  const auto equal = read_weights(config, file, "rank-0").layers[0].w_qkv;
  CHECK(equal.num_parts == 1);
  CHECK(equal.parts[0].tile_end == 4);

  order.shape = {1, 32};
  order.bytes.resize(32 * 4);
  file = tiny.file();
  CHECK(read_weights(config, file, "rank-0").layers[0].w_qkv.num_parts == 1);
}

TEST_CASE("an order that is no permutation, or has another shape, is refused") {
  const std::string name = "layers.0.feed_forward.w2.0.order";
  const auto with = [&name](size_t at, int32_t value) {
    TinyWorkspace tiny({Stored::kI8, true});
    std::memcpy(tiny.tensor(name).bytes.data() + at * 4, &value, 4);
    return tiny;
  };
  TinyWorkspace good({Stored::kI8, true});
  int32_t first = 0;
  std::memcpy(&first, good.tensor(name).bytes.data(), 4);
  const std::string where =
      "rank-0: " + name + ": expected a permutation of 64 input features, got ";
  refuse_tensors(with(5, 64), where + "64.");
  refuse_tensors(with(5, -1), where + "-1.");
  refuse_tensors(with(5, first), where + std::to_string(first) + " twice.");
  good.tensor(name).shape = {2, 32};
  refuse_tensors(good, "rank-0: " + name + ": expected I32 [1, 64], got I32 [2, 32].");
}

TEST_CASE("codes without what belongs to them, or with other shapes, are refused") {
  const std::string w2 = "layers.0.feed_forward.w2.0";
  const auto without = [&w2](Kind kind, const std::string& suffix) {
    TinyWorkspace tiny(kind);
    std::erase_if(tiny.tensors(), [&](const TestTensor& t) { return t.name == w2 + suffix; });
    return tiny;
  };
  refuse_tensors(without({Stored::kU4}, ".scales"), "rank-0: " + w2 + ".scales: missing.");
  refuse_tensors(without({Stored::kU8}, ".zeros"), "rank-0: " + w2 + ".zeros: missing.");
  refuse_tensors(without({Stored::kU8}, ".qweight"), "rank-0: " + w2 + ".qweight: missing.");
  refuse_tensors(without({Stored::kI8}, ".row_scales"), "rank-0: " + w2 + ".scales: missing.");

  TinyWorkspace both({Stored::kI8});
  both.tensors().push_back(both.tensor(w2 + ".row_scales"));
  both.tensors().back().name = w2 + ".zeros";
  refuse_tensors(both, "rank-0: " + w2 + ".zeros: unexpected tensor.");

  const auto shaped = [&w2](Kind kind, const std::string& suffix, std::vector<int64_t> shape) {
    TinyWorkspace tiny(kind);
    tiny.tensor(w2 + suffix).shape = std::move(shape);
    return tiny;
  };
  refuse_tensors(shaped({Stored::kU4}, ".qweight", {2, 4, 32, 4}),
                 "rank-0: " + w2 + ".qweight: expected U8 [2, 8, 16, 4], got U8 [2, 4, 32, 4].");
  refuse_tensors(shaped({Stored::kU8}, ".qweight", {2, 16, 4, 16}),
                 "rank-0: " + w2 + ".qweight: expected U8 [2, 16, 16, 4], got U8 [2, 16, 4, 16].");
  refuse_tensors(shaped({Stored::kI8}, ".qweight", {2048}),
                 "rank-0: " + w2 + ".qweight: expected U8 [2, 16, 16, 4], got U8 [2048].");
  const std::string groups =
      "rank-0: " + w2 +
      ".scales: expected groups of a multiple of 8 that divides 64 input features, ";
  refuse_tensors(shaped({Stored::kU4}, ".scales", {4, 1, 2, 8}), groups + "got [4, 1, 2, 8].");
  refuse_tensors(shaped({Stored::kU8}, ".scales", {2, 16, 8}), groups + "got [2, 16, 8].");
  refuse_tensors(shaped({Stored::kU4}, ".scales", {1, 4, 16}),
                 "rank-0: " + w2 + ".scales: expected F16 [2, 4, 16], got F16 [1, 4, 16].");
  refuse_tensors(shaped({Stored::kU8}, ".zeros", {8, 2, 16}),
                 "rank-0: " + w2 + ".zeros: expected U8 [2, 8, 16], got U8 [8, 2, 16].");

  TinyWorkspace infinite({Stored::kI8});
  const float value = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(infinite.tensor(w2 + ".row_scales").bytes.data() + 12, &value, 4);
  refuse_tensors(infinite, "rank-0: " + w2 + ".row_scales: element 3 is not finite.");
}

TEST_CASE("a file that is not a whole safetensors file is refused") {
  std::vector<std::byte> file = TinyWorkspace().file();
  refuse_file({}, "rank-0: 0 bytes: too short for a safetensors file.");
  refuse_file(
      {file.begin(), file.begin() + 100},
      "rank-0: header of 8184 bytes in a file of 100: truncated or not a safetensors file.");
  std::vector<std::byte> cut(file.begin(), file.end() - 4096);
  refuse_file(cut,
              "rank-0: __pad__.1: ends at byte 2088960 of the data, which has 2084864: the file is "
              "truncated.");
  std::vector<std::byte> longer = file;
  longer.resize(longer.size() + 64);
  refuse_file(longer, "rank-0: the tensors end at byte 2088960 of the data, which has 2089024.");
  std::vector<std::byte> huge = file;
  std::fill_n(huge.begin(), 8, std::byte{0xFF});
  refuse_file(
      huge,
      "rank-0: header of 18446744073709551615 bytes in a file of 2097152: truncated or not a "
      "safetensors file.");
}

TEST_CASE("each field of the header is checked") {
  const auto header = [](const std::string& entry) {
    return "{\"a\":" + entry + "," + kRest + "}";
  };
  const std::string good = R"({"dtype":"F32","shape":[16],"data_offsets":[0,64]})";
  CHECK(read_safetensors(file_of(header(good)), "rank-0").size() == 1);
  const std::vector<std::vector<std::string>> wrong = {
      {R"("F32")", R"("F64")", "rank-0: a.dtype: expected F32, F16, BF16, U8 or I32, got F64."},
      {R"("F32")", "1", "rank-0: a.dtype: expected a string."},
      {"[16]", "[-16]", "rank-0: a.shape: expected dimensions of at least 1, got -16."},
      {"[16]", "[0]", "rank-0: a.shape: expected dimensions of at least 1, got 0."},
      {"[16]", "[]", "rank-0: a.shape: expected 1 to 8 integers."},
      {"[16]", "[1.5]", "rank-0: a.shape: expected integers."},
      {"[16]", "[4611686018427387904,4611686018427387904]",
       "rank-0: a.shape: more bytes than a file can hold."},
      {"[0,64]", "[0,60]", "rank-0: a.data_offsets: expected 64 bytes for its shape, got 0 to 60."},
      {"[0,64]", "[64,0]", "rank-0: a.data_offsets: expected 64 bytes for its shape, got 64 to 0."},
      {"[0,64]", "[-64,0]", "rank-0: a.data_offsets: expected two integers of at least 0."},
      {"[0,64]", "[0]", "rank-0: a.data_offsets: expected two integers of at least 0."},
      {"[0,64]", "[4,68]",
       "rank-0: a: starts at byte 4 of the data, expected 0: tensors must be contiguous."},
      {R"("dtype")", R"("type")",
       "rank-0: a: expected an object of dtype, shape and data_offsets."},
  };
  for (const auto& change : wrong) {
    CAPTURE(change[1]);
    refuse_file(file_of(header(replaced(good, change[0], change[1]))), change[2]);
  }
  refuse_file(file_of("[]"), "rank-0: header: expected an object.");
  refuse_file(file_of(R"({"a":{"dtype":"F32","shape":[15],"data_offsets":[0,60]},)"
                      R"("b":{"dtype":"F32","shape":[1],"data_offsets":[60,64]},)" +
                      kRest + "}"),
              "rank-0: b: starts at byte 1084 of the file, expected a multiple of 64.");
}

TEST_CASE("a file size that is not one of huge pages is refused") {
  std::string header = R"({"a":{"dtype":"F32","shape":[16],"data_offsets":[0,64]}})";
  header.resize(120, ' ');
  refuse_file(TinyWorkspace::with_header(header, std::vector<std::byte>(64)),
              "rank-0: 192 bytes: expected a multiple of 2097152.");
}

TEST_CASE("no spoiled header is read past its bytes") {
  for (const Kind kind : lmrun::testing::kKinds) {
    const TinyWorkspace tiny(kind);
    const ModelConfig config = parse_model_config(tiny.model_json(), "model.json");
    const std::vector<std::byte> good = tiny.file();
    std::mt19937 random(3);
    int refused = 0;
    for (int round = 0; round < 200; ++round) {
      std::vector<std::byte> file = good;
      for (int change = 0; change < 3; ++change) {
        file[random() % 4096] = static_cast<std::byte>(random() & 0x7F);
      }
      if (round % 3 == 0) file.resize(random() % file.size());
      try {
        read_weights(config, file, "rank-0");
      } catch (const Error&) {
        ++refused;
      }
    }
    CHECK(refused > 160);
  }
}

TEST_CASE("no spoiled model.json makes tensors be read past their bytes") {
  for (const Kind kind : lmrun::testing::kKinds) {
    const TinyWorkspace tiny(kind);
    const std::string good = tiny.model_json();
    const std::vector<std::byte> file = tiny.file();
    std::mt19937 random(5);
    for (int round = 0; round < 200; ++round) {
      std::string json = good;
      for (int change = 0; change < 2; ++change) {
        const char digits[] = "0123456789";
        size_t at = random() % json.size();
        while (std::isdigit(static_cast<unsigned char>(json[at])) == 0) at = random() % json.size();
        json[at] = digits[random() % 10];
      }
      try {
        read_weights(parse_model_config(json, "m"), file, "rank-0");
      } catch (const Error&) {
        continue;
      }
    }
  }
}

TEST_CASE("a folder without a workspace is named") {
  const TemporaryFolder folder;
  CHECK_THROWS_WITH_AS(
      Workspace::open(folder.path()),
      (folder.path() + "/model.json: cannot open: No such file or directory.").c_str(), Error);
}
