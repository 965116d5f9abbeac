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
#include "base/peak_products.h"
#include "base/thread_pool.h"
#include "cache/kv_pool.h"
#include "kernels/kernels.h"
#include "quant/kv_layouts.h"
#include "quant/layout.h"
#include "tensor/float_buffer.h"

namespace lmrun::engine {
namespace {

using base::concat;
using base::InvalidArgument;
using quant::PackedMatrix;
using quant::WeightFormat;

constexpr int64_t kPiecesPerThread = 4;  // as the decoder cuts a matrix
constexpr int64_t kTilesTogether = 4;    // likewise
constexpr int64_t kAttentionRows = 16;   // as the decoder cuts a sequence
constexpr int64_t kBlockSize = 64;
constexpr int64_t kMinPasses = 8;
// A pass is short, some milliseconds: on a machine that others use too, a short one is more often
// left alone. Shorter ones show bursts that no model of gigabytes sees (Zen 4: 51 GB/s, not 37).
constexpr int64_t kPassBytes = 128 << 20;
constexpr int64_t kPassOperations = 1 << 28;

WeightFormat format_of(const std::string& name) {
  if (name == "u4") return WeightFormat::kU4;
  if (name == "u8") return WeightFormat::kU8;
  if (name == "i8") return WeightFormat::kI8;
  if (name == "F16") return WeightFormat::kF16;
  if (name == "BF16") return WeightFormat::kBf16;
  if (name == "F32") return WeightFormat::kF32;
  throw InvalidArgument(concat("format=", name, ": expected u4, u8, i8, F16, BF16 or F32."));
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
    shape_.group_size = shape_.has_groups() ? wanted.group_size : 0;
    const int64_t tiles = shape_.num_tiles();
    weight_bytes_ = tiles * shape_.tile_bytes();
    num_params_ = tiles * shape_.num_groups() * quant::kTileFeatures;
    num_row_scales_ = format == WeightFormat::kI8 ? tiles * quant::kTileFeatures : 0;
    count_ = std::max<int64_t>(1, wanted.bytes / bytes_each());
    weights_ = tensor::FloatBuffer(count_ * weight_bytes_ / 4);
    // 0.02 in f16, twice a float; as F32 it is small too, and as bf16 finite.
    constexpr uint32_t kCodes = 0x251F251F;
    auto* words = reinterpret_cast<uint32_t*>(weights_.data());
    std::fill(words, words + weights_.size(), kCodes);
    scales_.assign(static_cast<size_t>(count_ * num_params_), 0x251F);
    zeros_.assign(static_cast<size_t>(count_ * num_params_), 8);
    row_scales_.assign(static_cast<size_t>(count_ * num_row_scales_), 0.01F);
  }

  int64_t count() const { return count_; }
  int64_t bytes_each() const { return weight_bytes_ + 3 * num_params_ + 4 * num_row_scales_; }
  PackedMatrix at(int64_t index) const {
    PackedMatrix w = shape_;
    w.weight = reinterpret_cast<const std::byte*>(weights_.data()) + index * weight_bytes_;
    if (num_params_ != 0) {
      w.scale16 = scales_.data() + index * num_params_;
      w.zero = zeros_.data() + index * num_params_;
    }
    if (num_row_scales_ != 0) w.scale32 = row_scales_.data() + index * num_row_scales_;
    return w;
  }
  // The shape of all of them.
  const PackedMatrix& shape() const { return shape_; }

 private:
  PackedMatrix shape_;
  int64_t weight_bytes_ = 0;
  int64_t num_params_ = 0;
  int64_t num_row_scales_ = 0;
  int64_t count_ = 0;
  tensor::FloatBuffer weights_;
  std::vector<uint16_t> scales_;
  std::vector<uint8_t> zeros_;
  std::vector<float> row_scales_;
};

// Inputs of a case, and what its format wants beside them, made anew for each product as the
// decoder does.
class Inputs {
 public:
  Inputs(const GemmCase& wanted, const PackedMatrix& shape, const kernels::OpTable& ops)
      : ops_(ops),
        shape_(shape),
        rows_(wanted.rows),
        x_(static_cast<size_t>(wanted.rows * wanted.k), 0.5F),
        units_(static_cast<size_t>(wanted.rows * shape.num_blocks())),
        sums_(units_.size()) {
    if (shape.has_groups()) {
      const int64_t digits = quant::digits_of(wanted.activation_bits);
      const int64_t stride = quant::quantized_stride(wanted.k);
      codes_.resize(static_cast<size_t>(wanted.rows * digits * stride));
      split_ = {codes_.data(), digits, stride, shape.block_inputs(), units_.data(), sums_.data()};
    }
    if (shape.format != WeightFormat::kI8) return;
    const int64_t stride = quant::quantized_stride(wanted.k);
    codes_.resize(static_cast<size_t>(wanted.rows * stride));
    scales_.resize(static_cast<size_t>(wanted.rows));
    code_sums_.resize(static_cast<size_t>(wanted.rows));
    quantized_ = {codes_.data(), stride, scales_.data(), code_sums_.data()};
  }

  void prepare() {
    if (shape_.has_groups()) {
      ops_.split_rows(x_.data(), rows_, shape_.k, split_);
    }
    if (shape_.format == WeightFormat::kI8) {
      ops_.quantize_rows(x_.data(), rows_, shape_.k, quantized_);
    }
  }

  void multiply(const PackedMatrix& w, int64_t begin, int64_t end, float* y) const {
    if (w.format == WeightFormat::kI8) {
      ops_.gemm_i8(w, quantized_, rows_, begin, end, y, w.n);
    } else if (w.has_groups()) {
      ops_.gemm_codes(w, split_, rows_, begin, end, y, w.n);
    } else {
      ops_.gemm(w, x_.data(), rows_, begin, end, y, w.n);
    }
  }

 private:
  const kernels::OpTable& ops_;
  PackedMatrix shape_;
  int64_t rows_;
  std::vector<float> x_;
  std::vector<float> units_;
  std::vector<float> sums_;
  std::vector<int8_t> codes_;
  std::vector<float> scales_;
  std::vector<int32_t> code_sums_;
  quant::DigitRows split_;
  quant::QuantizedRows quantized_;
};

// The blocks of one sequence, filled.
class FilledCache {
 public:
  FilledCache(const AttentionCase& wanted, const kernels::OpTable& ops)
      : layers_(quant::kv_layouts(
            {wanted.num_kv_heads, wanted.head_dim, kBlockSize},
            std::vector<int64_t>(static_cast<size_t>(wanted.num_layers), wanted.kv_bits))),
        table_(static_cast<size_t>((wanted.context + kBlockSize - 1) / kBlockSize)),
        pool_(static_cast<int64_t>(table_.size()), block_bytes()) {
    std::iota(table_.begin(), table_.end(), 0);
    std::vector<float> vector(static_cast<size_t>(wanted.head_dim));
    for (size_t i = 0; i < vector.size(); ++i) vector[i] = static_cast<float>(i % 7) - 3.0F;
    for (int64_t position = 0; position < wanted.context; ++position) {
      std::byte* block =
          pool_.data() + table_[static_cast<size_t>(position / kBlockSize)] * block_bytes();
      for (const quant::KvLayout& layer : layers_) {
        for (int64_t head = 0; head < wanted.num_kv_heads; ++head) {
          ops.kv_write(layer, vector.data(), vector.data(), block + layer.head_offset(head),
                       position % kBlockSize);
        }
      }
    }
  }

  const std::vector<quant::KvLayout>& layers() const { return layers_; }
  int64_t block_bytes() const { return layers_.front().block_bytes; }
  const std::byte* data() { return pool_.data(); }
  const int32_t* table() const { return table_.data(); }

 private:
  std::vector<quant::KvLayout> layers_;
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
  if (wanted.activation_bits != 32 && wanted.activation_bits != 16 && wanted.activation_bits != 8) {
    throw InvalidArgument(
        concat("activation_bits=", wanted.activation_bits, ": expected 32, 16 or 8."));
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
  const bool has_groups = format == WeightFormat::kU4 || format == WeightFormat::kU8;
  if (has_groups &&
      (wanted.group_size < quant::kU4TileInputs || wanted.group_size % quant::kU4TileInputs != 0 ||
       wanted.k % wanted.group_size != 0)) {
    throw InvalidArgument(concat("group_size=", wanted.group_size,
                                 ": expected a multiple of 8 that divides k=", wanted.k, "."));
  }
  if (format == WeightFormat::kI8 && wanted.k > quant::kMostI8Inputs) {
    throw InvalidArgument(
        concat("k=", wanted.k, ": expected at most ", quant::kMostI8Inputs, " for i8."));
  }
  base::ThreadPool pool(static_cast<int>(wanted.threads));
  const Matrices matrices(wanted, format);
  Inputs inputs(wanted, matrices.shape(), ops);
  std::vector<float> y(static_cast<size_t>(wanted.rows * wanted.n));
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
      int64_t chunk = std::max<int64_t>(1, (w.num_tiles() + pieces - 1) / pieces);
      if (chunk > kTilesTogether) {
        chunk = (chunk + kTilesTogether - 1) / kTilesTogether * kTilesTogether;
      }
      inputs.prepare();
      pool.parallel_for(w.num_tiles(), chunk, [&](int64_t begin, int64_t end, int /*thread*/) {
        inputs.multiply(w, begin, end, y.data());
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
      (kernels::attention_scratch_floats(cache.layers().front(), wanted.group, most_rows) + 15) /
      16 * 16;
  tensor::FloatBuffer scratch(scratch_floats * wanted.threads);
  const int64_t parts = (wanted.rows + kAttentionRows - 1) / kAttentionRows;
  size_t next = 0;
  const double seconds = best_pass(wanted.seconds, [&] {
    const quant::KvLayout& layer = cache.layers()[next];
    next = (next + 1) % cache.layers().size();
    const auto run = [&](int64_t begin, int64_t end, int thread) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t first = (parts - 1 - item / wanted.num_kv_heads) * kAttentionRows;
        const int64_t kv_head = item % wanted.num_kv_heads;
        const int64_t at = first * stride + kv_head * wanted.group * wanted.head_dim;
        kernels::AttentionArgs args{};
        args.layout = &layer;
        args.pool = cache.data();
        args.block_table = cache.table();
        args.kv_head = kv_head;
        args.group = wanted.group;
        args.q = q.data() + at;
        args.q_stride = stride;
        args.out = out.data() + at;
        args.out_stride = stride;
        args.num_rows = std::min(kAttentionRows, wanted.rows - first);
        args.first_position = wanted.context - wanted.rows + first;
        args.scale = 0.125F;
        args.digits = kernels::attention_digits(wanted.activation_bits);
        args.scratch = scratch.data() + thread * scratch_floats;
        ops.attention(args);
      }
    };
    pool.parallel_for(parts * wanted.num_kv_heads, 1, run);
  });
  const auto token_bytes = static_cast<double>(cache.block_bytes()) / kBlockSize;
  const auto first_context = static_cast<double>(wanted.context - wanted.rows);
  const auto rows = static_cast<double>(wanted.rows);
  const double positions = rows * first_context + rows * (rows + 1) / 2;
  return {token_bytes * static_cast<double>(wanted.context) /
              static_cast<double>(wanted.num_layers) / seconds,
          4.0 * static_cast<double>(heads) * static_cast<double>(wanted.head_dim) * positions /
              seconds};
}

double measure_flops(int threads) { return base::measure_flops(threads); }

double measure_products(const std::string& name, int threads) {
  return base::measure_products(name, threads);
}

}  // namespace lmrun::engine
