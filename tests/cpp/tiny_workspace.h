// A small seeded workspace, and the means to spoil it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace lmrun::testing {

struct TestTensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
};

// How the linears are stored.
enum class Stored { kFloat, kU4, kU8, kI8 };

struct Kind {
  Stored stored = Stored::kFloat;
  bool is_ordered = false;  // columns permuted, each linear in an order of its own
  int64_t context_length = 96;
};

inline constexpr Kind kKinds[] = {{Stored::kFloat, false}, {Stored::kU4, false},
                                  {Stored::kU8, false},    {Stored::kI8, false},
                                  {Stored::kU4, true},     {Stored::kI8, true}};

// Two layers, 4 query heads on 2 KV heads of 8, hidden 32, intermediate 64, vocabulary 40,
// context 96 unless told otherwise.
class TinyWorkspace {
 public:
  explicit TinyWorkspace(Kind kind = {}) : kind_(kind) {
    add_floats("tok_embeddings.weight", {3, 32, 16}, 0.5F);
    add_floats("output.weight", {3, 32, 16}, 0.5F);
    add_floats("norm.weight", {32}, 1.0F);
    add_floats("rope.inv_freq", {4}, 1.0F);
    for (int layer = 0; layer < 2; ++layer) {
      const std::string prefix = "layers." + std::to_string(layer);
      add_floats(prefix + ".attention_norm.weight", {32}, 1.0F);
      add_matrix(prefix + ".attention.w_qkv.0", 64, 32, 3);
      add_matrix(prefix + ".attention.wo.0", 32, 32, 1);
      add_floats(prefix + ".ffn_norm.weight", {32}, 1.0F);
      add_matrix(prefix + ".feed_forward.w13.0", 128, 32, 2);
      add_matrix(prefix + ".feed_forward.w2.0", 32, 64, 1);
    }
  }

  std::string model_json() const {
    const std::string weights[] = {
        R"({"method": "none", "bits": 32, "group_size": 0, "symmetric": false, "activation_bits": 16})",
        R"({"method": "awq", "bits": 4, "group_size": 32, "symmetric": false, "activation_bits": 16})",
        R"({"method": "rtn", "bits": 8, "group_size": 8, "symmetric": false, "activation_bits": 16})",
        R"({"method": "smoothquant", "bits": 8, "group_size": 0, "symmetric": true, "activation_bits": 8})"};
    return R"({"format": "lmrun-workspace", "schema_version": 2, "layout": "cpu-tile16", "tp": 1,
 "architecture": "LlamaForCausalLM", "hidden_size": 32, "intermediate_size": 64, "num_layers": 2,
 "num_heads": 4, "num_kv_heads": 2, "head_dim": 8, "vocab_size": 40, "context_length": )" +
           std::to_string(kind_.context_length) + R"(,
 "rms_norm_eps": 1e-05, "tie_word_embeddings": false, "qkv_bias": false, "qk_norm": false,
 "attention_scale": 0.35, "rope_attention_factor": 1.0, "bos_token_id": 1, "eos_token_ids": [2],
 "weights": )" +
           weights[static_cast<size_t>(kind_.stored)] + R"(, "source": {"checkpoint": "seed"}})";
  }

  std::vector<TestTensor>& tensors() { return tensors_; }

  TestTensor& tensor(const std::string& name) {
    for (TestTensor& tensor : tensors_) {
      if (tensor.name == name) return tensor;
    }
    throw std::out_of_range(name);
  }

  // The file as the writer makes it: aligned data, 64-byte tensors, 2 MiB file.
  std::vector<std::byte> file() const {
    std::string entries;
    std::vector<std::byte> data;
    int pads = 0;
    const auto put = [&](const std::string& name, const std::string& dtype,
                         const std::vector<int64_t>& shape, const std::vector<std::byte>& bytes) {
      std::string sizes;
      for (const int64_t size : shape) sizes += (sizes.empty() ? "" : ",") + std::to_string(size);
      entries += (entries.empty() ? "\"" : ",\"") + name + "\":{\"dtype\":\"" + dtype +
                 "\",\"shape\":[" + sizes + "],\"data_offsets\":[" + std::to_string(data.size()) +
                 "," + std::to_string(data.size() + bytes.size()) + "]}";
      data.insert(data.end(), bytes.begin(), bytes.end());
    };
    const auto pad_to = [&](size_t size) {
      if (size == data.size()) return;
      const size_t missing = size - data.size();
      put("__pad__." + std::to_string(pads++), "U8", {static_cast<int64_t>(missing)},
          std::vector<std::byte>(missing));
    };
    for (const TestTensor& tensor : tensors_) {
      pad_to((data.size() + 63) / 64 * 64);
      put(tensor.name, tensor.dtype, tensor.shape, tensor.bytes);
    }
    constexpr size_t kHeader = 8192 - 8;  // more than the entries need
    pad_to((size_t{2} << 20) - 8 - kHeader);
    std::string header = "{" + entries + "}";
    header.resize(kHeader, ' ');
    return with_header(header, data);
  }

  static std::vector<std::byte> with_header(const std::string& header,
                                            const std::vector<std::byte>& data) {
    std::vector<std::byte> file;
    for (int i = 0; i < 8; ++i) file.push_back(static_cast<std::byte>(header.size() >> (8 * i)));
    for (const char c : header) file.push_back(static_cast<std::byte>(c));
    file.insert(file.end(), data.begin(), data.end());
    return file;
  }

  void write(const std::string& folder) const {
    std::ofstream(folder + "/model.json") << model_json();
    const std::vector<std::byte> bytes = file();
    std::ofstream out(folder + "/rank-0.safetensors", std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()),
              static_cast<std::streamsize>(bytes.size()));
  }

 private:
  template <typename Element, typename Make>
  void add(const std::string& name, const char* dtype, const std::vector<int64_t>& shape,
           Make make) {
    size_t count = 1;
    for (const int64_t size : shape) count *= static_cast<size_t>(size);
    std::vector<Element> values(count);
    for (Element& value : values) value = make();
    const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
    tensors_.push_back({name, dtype, shape, {bytes, bytes + count * sizeof(Element)}});
  }

  // Uniform in [-scale, scale].
  void add_floats(const std::string& name, const std::vector<int64_t>& shape, float scale) {
    std::uniform_real_distribution<float> uniform(-scale, scale);
    add<float>(name, "F32", shape, [&] { return uniform(random_); });
  }

  // `parts`: the linears that the matrix stacks.
  void add_matrix(const std::string& base, int64_t n, int64_t k, int64_t parts) {
    const auto bytes = [&](const char* suffix, const std::vector<int64_t>& shape, uint32_t codes) {
      add<uint8_t>(base + suffix, "U8", shape,
                   [&] { return static_cast<uint8_t>(random_() % codes); });
    };
    switch (kind_.stored) {
      case Stored::kFloat:
        add_floats(base + ".weight", {n / 16, k, 16}, 0.3F);
        return;
      case Stored::kU4:
        bytes(".qweight", {n / 16, k / 8, 16, 4}, 256);
        add<uint16_t>(base + ".scales", "F16", {n / 16, k / 32, 16}, [&] {
          return static_cast<uint16_t>(0x2800 + random_() % 0x200);  // about 0.04
        });
        bytes(".zeros", {n / 16, k / 32, 16}, 16);
        break;
      case Stored::kU8:
        bytes(".qweight", {n / 16, k / 4, 16, 4}, 256);
        add_floats(base + ".scales", {n / 16, k / 8, 16}, 0.003F);
        bytes(".zeros", {n / 16, k / 8, 16}, 256);
        break;
      case Stored::kI8:
        bytes(".qweight", {n / 16, k / 4, 16, 4}, 256);
        add_floats(base + ".row_scales", {n / 16, 16}, 0.003F);
        break;
    }
    if (kind_.is_ordered) add_orders(base + ".order", parts, k);
  }

  void add_orders(const std::string& name, int64_t parts, int64_t k) {
    std::vector<int32_t> orders;
    for (int64_t part = 0; part < parts; ++part) {
      std::vector<int32_t> order(static_cast<size_t>(k));
      std::iota(order.begin(), order.end(), 0);
      std::shuffle(order.begin(), order.end(), random_);
      orders.insert(orders.end(), order.begin(), order.end());
    }
    size_t next = 0;
    add<int32_t>(name, "I32", {parts, k}, [&] { return orders[next++]; });
  }

  Kind kind_;
  std::mt19937 random_{11};
  std::vector<TestTensor> tensors_;
};

}  // namespace lmrun::testing
