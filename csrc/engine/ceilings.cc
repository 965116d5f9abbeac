#include "engine/ceilings.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/concat.h"
#include "base/peak_flops.h"
#include "base/thread_pool.h"
#include "cache/kv_pool.h"
#include "kernels/kernels.h"
#include "quant/layout.h"
#include "tensor/float_buffer.h"

namespace lmrun::engine {
namespace {

using base::concat;
using base::InvalidArgument;
using quant::PackedMatrix;
using quant::WeightFormat;

constexpr int64_t kPiecesPerThread = 4;  // as the decoder cuts a matrix
constexpr int64_t kAttentionRows = 16;   // as the decoder cuts a sequence
constexpr int64_t kBlockSize = 64;
constexpr int64_t kMinPasses = 8;
// A pass is short, some milliseconds: on a machine that others use too, a short one is more often
// left alone. Shorter ones show bursts that no model of gigabytes sees (Zen 4: 51 GB/s, not 37).
constexpr int64_t kPassBytes = 128 << 20;
constexpr int64_t kPassOperations = 1 << 28;

WeightFormat format_of(const std::string& name) {
  if (name == "u4") return WeightFormat::kU4;
  if (name == "F16") return WeightFormat::kF16;
  if (name == "BF16") return WeightFormat::kBf16;
  if (name == "F32") return WeightFormat::kF32;
  throw InvalidArgument(concat("format=", name, ": expected u4, F16, BF16 or F32."));
}

void expect_positive(const char* name, int64_t value) {
  if (value < 1) throw InvalidArgument(concat(name, "=", value, ": expected at least 1."));
}

// Seconds of the best pass; passes go on until `seconds` are spent.
template <typename Pass>
double best_pass(double seconds, Pass&& pass) {
  using Clock = std::chrono::steady_clock;
  pass();  // touches what is touched, wakes who sleeps
  const Clock::time_point begin = Clock::now();
  std::chrono::duration<double> best = std::chrono::duration<double>::max();
  for (int64_t done = 0;; ++done) {
    const Clock::time_point start = Clock::now();
    if (done >= kMinPasses && std::chrono::duration<double>(start - begin).count() > seconds) {
      return best.count();
    }
    pass();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start));
  }
}

// Codes and parameters for several matrices of one shape, in huge pages.
class Matrices {
 public:
  Matrices(const GemmCase& wanted, WeightFormat format) {
    shape_.format = format;
    shape_.n = wanted.n;
    shape_.k = wanted.k;
    shape_.group_size = format == WeightFormat::kU4 ? wanted.group_size : 0;
    const int64_t tiles = shape_.num_tiles();
    weight_bytes_ = tiles * shape_.tile_bytes();
    num_params_ = tiles * shape_.num_groups() * quant::kTileFeatures;
    count_ = std::max<int64_t>(1, wanted.bytes / bytes_each());
    weights_ = tensor::FloatBuffer(count_ * weight_bytes_ / 4);
    // 0.02 in f16, twice a float; as F32 it is small too, and as bf16 finite.
    constexpr uint32_t kCodes = 0x251F251F;
    auto* words = reinterpret_cast<uint32_t*>(weights_.data());
    std::fill(words, words + weights_.size(), kCodes);
    scales_.assign(static_cast<size_t>(count_ * num_params_), 0x251F);
    zeros_.assign(static_cast<size_t>(count_ * num_params_), 8);
  }

  int64_t count() const { return count_; }
  int64_t bytes_each() const { return weight_bytes_ + 3 * num_params_; }
  PackedMatrix at(int64_t index) const {
    PackedMatrix w = shape_;
    w.weight = reinterpret_cast<const std::byte*>(weights_.data()) + index * weight_bytes_;
    if (num_params_ != 0) {
      w.scale = scales_.data() + index * num_params_;
      w.zero = zeros_.data() + index * num_params_;
    }
    return w;
  }

 private:
  PackedMatrix shape_;
  int64_t weight_bytes_ = 0;
  int64_t num_params_ = 0;
  int64_t count_ = 0;
  tensor::FloatBuffer weights_;
  std::vector<uint16_t> scales_;
  std::vector<uint8_t> zeros_;
};

// The blocks of one sequence, filled.
class FilledCache {
 public:
  FilledCache(const AttentionCase& wanted, const kernels::OpTable& ops)
      : layout_{wanted.num_layers, wanted.num_kv_heads, wanted.head_dim, kBlockSize,
                static_cast<int>(wanted.kv_bits)},
        table_(static_cast<size_t>((wanted.context + kBlockSize - 1) / kBlockSize)),
        pool_(static_cast<int64_t>(table_.size()), layout_.block_bytes()) {
    std::iota(table_.begin(), table_.end(), 0);
    std::vector<float> vector(static_cast<size_t>(wanted.head_dim));
    for (size_t i = 0; i < vector.size(); ++i) vector[i] = static_cast<float>(i % 7) - 3.0F;
    for (int64_t position = 0; position < wanted.context; ++position) {
      std::byte* block =
          pool_.data() + table_[static_cast<size_t>(position / kBlockSize)] * layout_.block_bytes();
      for (int64_t layer = 0; layer < wanted.num_layers; ++layer) {
        for (int64_t head = 0; head < wanted.num_kv_heads; ++head) {
          ops.kv_write(layout_, vector.data(), vector.data(),
                       block + layout_.head_offset(layer, head), position % kBlockSize);
        }
      }
    }
  }

  const quant::KvLayout& layout() const { return layout_; }
  const std::byte* data() { return pool_.data(); }
  const int32_t* table() const { return table_.data(); }

 private:
  quant::KvLayout layout_;
  std::vector<int32_t> table_;
  cache::KvPool pool_;
};

void check(const AttentionCase& wanted) {
  expect_positive("threads", wanted.threads);
  expect_positive("rows", wanted.rows);
  expect_positive("num_layers", wanted.num_layers);
  expect_positive("num_kv_heads", wanted.num_kv_heads);
  expect_positive("group", wanted.group);
  if (wanted.kv_bits != 4 && wanted.kv_bits != 8 && wanted.kv_bits != 16 && wanted.kv_bits != 32) {
    throw InvalidArgument(concat("kv_bits=", wanted.kv_bits, ": expected 4, 8, 16 or 32."));
  }
  if (wanted.head_dim < 8 || wanted.head_dim % 8 != 0) {
    throw InvalidArgument(concat("head_dim=", wanted.head_dim, ": expected a multiple of 8."));
  }
  if (wanted.context < wanted.rows) {
    throw InvalidArgument(
        concat("context=", wanted.context, ": expected at least the rows, ", wanted.rows, "."));
  }
}

}  // namespace

GemmSpeed measure_gemm(const GemmCase& wanted) {
  const WeightFormat format = format_of(wanted.format);
  const kernels::OpTable& ops = kernels::op_table(kernels::parse_isa(wanted.isa));
  expect_positive("threads", wanted.threads);
  expect_positive("rows", wanted.rows);
  expect_positive("n", wanted.n);
  expect_positive("k", wanted.k);
  const bool has_groups = format == WeightFormat::kU4;
  if (has_groups && (wanted.group_size < 32 || wanted.group_size % 32 != 0 ||
                     wanted.k % wanted.group_size != 0)) {
    throw InvalidArgument(concat("group_size=", wanted.group_size,
                                 ": expected a multiple of 32 that divides k=", wanted.k, "."));
  }
  base::ThreadPool pool(static_cast<int>(wanted.threads));
  const Matrices matrices(wanted, format);
  const std::vector<float> x(static_cast<size_t>(wanted.rows * wanted.k), 0.5F);
  std::vector<float> y(static_cast<size_t>(wanted.rows * wanted.n));
  std::vector<float> sums;
  if (has_groups) {
    sums.resize(static_cast<size_t>(wanted.rows * wanted.k / wanted.group_size));
    ops.group_sums(x.data(), wanted.rows, wanted.k, wanted.group_size, sums.data());
  }
  const int64_t operations = 2 * wanted.rows * wanted.n * wanted.k;
  const int64_t in_a_pass =
      std::clamp(std::min(kPassBytes / matrices.bytes_each(), kPassOperations / operations),
                 int64_t{1}, matrices.count());
  int64_t next = 0;
  const double seconds = best_pass(wanted.seconds, [&] {
    for (int64_t i = 0; i < in_a_pass; ++i) {
      const PackedMatrix w = matrices.at(next);
      next = (next + 1) % matrices.count();
      const int64_t pieces = wanted.threads * kPiecesPerThread;
      const int64_t chunk = std::max<int64_t>(1, (w.num_tiles() + pieces - 1) / pieces);
      pool.parallel_for(w.num_tiles(), chunk, [&](int64_t begin, int64_t end, int /*thread*/) {
        ops.gemm(w, x.data(), has_groups ? sums.data() : nullptr, wanted.rows, begin, end, y.data(),
                 wanted.n);
      });
    }
  });
  return {static_cast<double>(matrices.bytes_each() * in_a_pass) / seconds,
          static_cast<double>(operations * in_a_pass) / seconds};
}

AttentionSpeed measure_attention(const AttentionCase& wanted) {
  check(wanted);
  const kernels::OpTable& ops = kernels::op_table(kernels::parse_isa(wanted.isa));
  base::ThreadPool pool(static_cast<int>(wanted.threads));
  FilledCache cache(wanted, ops);
  const int64_t heads = wanted.num_kv_heads * wanted.group;
  const int64_t stride = heads * wanted.head_dim;
  std::vector<float> q(static_cast<size_t>(wanted.rows * stride), 0.25F);
  std::vector<float> out(q.size());
  const int64_t most_rows = std::min(kAttentionRows, wanted.rows);
  const int64_t scratch_floats =
      (kernels::attention_scratch_floats(cache.layout(), wanted.group, most_rows) + 15) / 16 * 16;
  tensor::FloatBuffer scratch(scratch_floats * wanted.threads);
  const int64_t parts = (wanted.rows + kAttentionRows - 1) / kAttentionRows;
  const double seconds = best_pass(wanted.seconds, [&] {
    for (int64_t layer = 0; layer < wanted.num_layers; ++layer) {
      const auto run = [&](int64_t begin, int64_t end, int thread) {
        for (int64_t item = begin; item < end; ++item) {
          const int64_t first = (parts - 1 - item / wanted.num_kv_heads) * kAttentionRows;
          const int64_t kv_head = item % wanted.num_kv_heads;
          const int64_t at = first * stride + kv_head * wanted.group * wanted.head_dim;
          kernels::AttentionArgs args{};
          args.layout = &cache.layout();
          args.pool = cache.data();
          args.block_table = cache.table();
          args.layer = layer;
          args.kv_head = kv_head;
          args.group = wanted.group;
          args.q = q.data() + at;
          args.q_stride = stride;
          args.out = out.data() + at;
          args.out_stride = stride;
          args.num_rows = std::min(kAttentionRows, wanted.rows - first);
          args.first_position = wanted.context - wanted.rows + first;
          args.scale = 0.125F;
          args.scratch = scratch.data() + thread * scratch_floats;
          ops.attention(args);
        }
      };
      pool.parallel_for(parts * wanted.num_kv_heads, 1, run);
    }
  });
  const quant::KvLayout& layout = cache.layout();
  const auto token_bytes = static_cast<double>(layout.block_bytes()) / kBlockSize;
  const auto first_context = static_cast<double>(wanted.context - wanted.rows);
  const auto rows = static_cast<double>(wanted.rows);
  const double positions = rows * first_context + rows * (rows + 1) / 2;
  const auto layer_heads = static_cast<double>(wanted.num_layers * heads);
  return {token_bytes * static_cast<double>(wanted.context) / seconds,
          4.0 * layer_heads * static_cast<double>(wanted.head_dim) * positions / seconds};
}

double measure_flops(int threads) { return base::measure_flops(threads); }

}  // namespace lmrun::engine
