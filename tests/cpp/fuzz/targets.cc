#include "fuzz/targets.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "workspace/model_config.h"
#include "workspace/safetensors.h"
#include "workspace/weights.h"

namespace lmrun::testing {
namespace {

constexpr size_t kFileAlignment = size_t{2} << 20;
constexpr size_t kHeaderAlignment = 4096;
// Words of data count up to this again and again, so that tensors of 32 columns may be orders of
// columns; read as floats they are finite.
constexpr int32_t kPeriod = 32;

void must(bool holds) {
  if (!holds) std::abort();
}

std::vector<std::byte> words_that_count() {
  std::vector<std::byte> bytes(kFileAlignment);
  for (size_t at = 0; at < bytes.size(); at += sizeof(int32_t)) {
    const auto word = static_cast<int32_t>(at / sizeof(int32_t) % kPeriod);
    std::memcpy(bytes.data() + at, &word, sizeof(word));
  }
  return bytes;
}

// A file whose header is padded, so that offsets stay legal as it changes.
std::vector<std::byte> file_of(std::string_view header) {
  static const std::vector<std::byte> kData = words_that_count();
  const size_t begin =
      (8 + header.size() + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment;
  std::vector<std::byte> file;
  while (file.size() <= begin) file.insert(file.end(), kData.begin(), kData.end());
  const uint64_t header_bytes = begin - 8;
  std::memcpy(file.data(), &header_bytes, sizeof(header_bytes));
  std::memset(file.data() + 8, ' ', header_bytes);
  if (!header.empty()) std::memcpy(file.data() + 8, header.data(), header.size());
  return file;
}

class Inside {
 public:
  explicit Inside(std::span<const std::byte> file) : file_(file) {}

  void check(const void* begin, int64_t bytes) const {
    const auto* first = static_cast<const std::byte*>(begin);
    must(bytes >= 0 && first >= file_.data() && first <= file_.data() + file_.size());
    must(bytes <= file_.data() + file_.size() - first);
  }

  void check(const quant::PackedMatrix& w) const {
    check(w.weight, w.num_tiles() * w.tile_bytes());
    const int64_t features = w.num_tiles() * quant::kTileFeatures;
    if (w.has_groups()) {
      must(w.k % w.group_size == 0 && w.group_size % w.block_inputs() == 0);
      must((w.scale16 == nullptr) != (w.scale32 == nullptr));
      if (w.scale16 != nullptr) check(w.scale16, features * w.num_groups() * 2);
      if (w.scale32 != nullptr) check(w.scale32, features * w.num_groups() * 4);
      check(w.zero, features * w.num_groups());
    } else if (w.format == quant::WeightFormat::kI8) {
      check(w.scale32, features * 4);
    }
    if (w.bias != nullptr) check(w.bias, w.n * 4);
    int64_t tile = 0;
    for (int64_t i = 0; i < w.num_parts; ++i) {
      must(w.parts[i].tile_end > tile);
      tile = w.parts[i].tile_end;
      check(w.parts[i].order, w.k * 4);
      for (int64_t k = 0; k < w.k; ++k) {
        must(w.parts[i].order[k] >= 0 && w.parts[i].order[k] < w.k);
      }
    }
    must(w.num_parts == 0 || tile == w.num_tiles());
  }

  void check(const workspace::ModelConfig& config, const workspace::Weights& weights) const {
    check(weights.tok_embeddings);
    check(weights.output);
    check(weights.norm, config.hidden_size * 4);
    check(weights.inv_freq, config.head_dim / 2 * 4);
    must(static_cast<int64_t>(weights.layers.size()) == config.num_layers);
    for (const workspace::LayerWeights& layer : weights.layers) {
      for (const quant::PackedMatrix* w : {&layer.w_qkv, &layer.wo, &layer.w13, &layer.w2}) {
        check(*w);
      }
      check(layer.attention_norm, config.hidden_size * 4);
      check(layer.ffn_norm, config.hidden_size * 4);
      if (config.qk_norm) {
        check(layer.q_norm, config.head_dim * 4);
        check(layer.k_norm, config.head_dim * 4);
      }
    }
  }

 private:
  std::span<const std::byte> file_;
};

}  // namespace

bool fuzz_safetensors(const uint8_t* input, size_t bytes) {
  std::vector<std::byte> file;
  if (bytes > 0 && input[0] == '{') {
    file = file_of({reinterpret_cast<const char*>(input), bytes});
  } else {
    const auto* first = reinterpret_cast<const std::byte*>(input);
    file.assign(first, first + bytes);
  }
  try {
    const Inside inside(file);
    for (const auto& [name, entry] : workspace::read_safetensors(file, "file")) {
      int64_t expected = workspace::dtype_bytes(entry.dtype);
      for (const int64_t size : entry.shape) expected *= size;
      must(static_cast<int64_t>(entry.bytes.size()) == expected);
      inside.check(entry.bytes.data(), expected);
    }
  } catch (const base::Error&) {
    return false;
  }
  return true;
}

bool fuzz_workspace(const uint8_t* input, size_t bytes) {
  const std::string_view text(reinterpret_cast<const char*>(input), bytes);
  const size_t end = std::min(text.find('\0'), text.size());
  try {
    const workspace::ModelConfig config =
        workspace::parse_model_config(text.substr(0, end), "model.json");
    const std::vector<std::byte> file = file_of(text.substr(std::min(end + 1, text.size())));
    Inside(file).check(config, workspace::read_weights(config, file, "rank-0"));
  } catch (const base::Error&) {
    return false;
  }
  return true;
}

}  // namespace lmrun::testing
