#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/cpu_features.h"
#include "kernels/cache_block.h"
#include "kernels/cpu/avx512.h"
#include "kernels/cpu/reference.h"
#include "kernels/random_inputs.h"
#include "quant/kv_layouts.h"

namespace lmrun::kernels::testing {
namespace {

constexpr int64_t kHeads = 3;  // KV heads
constexpr int64_t kLayer = 1;
constexpr int64_t kHead = 2;

// The tables of this machine, and what no table has here.
struct Variant {
  std::string name;
  OpTable ops;
};

std::vector<Variant> variants() {
  std::vector<Variant> all;
  for (const Isa isa : supported_isas()) all.push_back({isa_name(isa), op_table(isa)});
#if defined(__x86_64__)
  const base::CpuFeatures cpu = base::detect_cpu_features();
  OpTable ops = reference::ops();
  if (cpu.missing_for_avx512().empty()) {
    ops.attention = avx512::attention_words;
    ops.attention_join = avx512::attention_join;
    all.push_back({"words", ops});
  }
#endif
  return all;
}

// A sequence whose blocks lie scattered in a pool; slots that were not written read as NaN, or as
// the largest codes with NaN for a scale.
class Sequence {
 public:
  Sequence(const OpTable& ops, int64_t dim, int64_t block_size, int bits, int64_t length)
      : ops_(ops),
        layers_(quant::kv_layouts({kHeads, dim, block_size}, std::vector<int64_t>{8, bits, 4})),
        layout_(layers_[kLayer]) {
    const int64_t blocks = (length + block_size - 1) / block_size;
    pool_.assign(static_cast<size_t>((2 * blocks + 1) * layout_.block_bytes), std::byte{0xFF});
    for (int64_t i = 0; i < blocks; ++i) {
      table_.push_back(static_cast<int32_t>(2 * (blocks - i)));
    }
    const std::vector<float> k = random_floats(length * dim, 51);
    const std::vector<float> v = random_floats(length * dim, 53);
    for (int64_t p = 0; p < length; ++p) {
      std::byte* head =
          pool_.data() + block_of(p) * layout_.block_bytes + layout_.head_offset(kHead);
      ops.kv_write(layout_, k.data() + p * dim, v.data() + p * dim, head, p % block_size);
    }
  }

  const quant::KvLayout& layout() const { return layout_; }

  // Rows at positions first, first + 1, ...; q and the result are [rows, group * D].
  std::vector<float> attend(const float* q, int64_t group, int64_t first, int64_t rows) const {
    const int64_t width = group * layout_.head_dim;
    std::vector<float> out(static_cast<size_t>(rows * width), NAN);
    std::vector<float> scratch(static_cast<size_t>(attention_scratch_floats(layout_, group, rows)),
                               NAN);
    AttentionArgs args{};
    args.layout = &layout_;
    args.pool = pool_.data();
    args.block_table = table_.data();
    args.kv_head = kHead;
    args.group = group;
    args.q = q;
    args.q_stride = width;
    args.out = out.data();
    args.out_stride = width;
    args.num_rows = rows;
    args.first_position = first;
    args.scale = scale();
    args.scratch = scratch.data();
    args.digits = digits_;
    if (split_.empty()) {
      ops_.attention(args);
      return out;
    }
    // Spans apart, the last first, each with scratch of its own.
    std::vector<float> partials(static_cast<size_t>(attention_spans(first + rows) *
                                                    attention_partial_floats(layout_, group, rows)),
                                NAN);
    args.partials = partials.data();
    args.span_end = attention_spans(first + rows);
    for (const int64_t begin : split_) {
      std::fill(scratch.begin(), scratch.end(), NAN);
      args.span_begin = begin;
      ops_.attention(args);
      args.span_end = begin;
    }
    ops_.attention_join(args);
    return out;
  }

  // From now on contexts are split: ranges of spans begin at these, in falling order down to 0.
  void split_at(std::vector<int64_t> begins) { split_ = std::move(begins); }
  void use_digits(int64_t digits) { digits_ = digits; }

  // One query head at a position, in float64.
  std::vector<double> expected(const float* q, int64_t position) const {
    std::vector<double> weights;
    double sum = 0;
    for (int64_t p = 0; p <= position; ++p) {
      double dot = 0;
      for (int64_t d = 0; d < layout_.head_dim; ++d) dot += q[d] * value(kKeys, p, d);
      weights.push_back(std::exp(dot * scale()));  // small enough not to overflow float64
      sum += weights.back();
    }
    std::vector<double> out(static_cast<size_t>(layout_.head_dim));
    for (int64_t p = 0; p <= position; ++p) {
      for (size_t d = 0; d < out.size(); ++d) {
        out[d] +=
            weights[static_cast<size_t>(p)] / sum * value(kValues, p, static_cast<int64_t>(d));
      }
    }
    return out;
  }

 private:
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(layout_.head_dim)); }
  int64_t block_of(int64_t p) const { return table_[static_cast<size_t>(p / layout_.block_size)]; }
  double value(Part part, int64_t p, int64_t d) const {
    const CacheBlock block(layers_, pool_.data() + block_of(p) * layout_.block_bytes);
    return block.value(kLayer, kHead, part, p % layout_.block_size, d);
  }

  const OpTable ops_;
  std::vector<quant::KvLayout> layers_;  // the neighbours have other bits
  quant::KvLayout layout_;
  std::vector<std::byte> pool_;
  std::vector<int32_t> table_;
  std::vector<int64_t> split_;
  int64_t digits_ = 3;
};

TEST_CASE("attention agrees with a float64 softmax over what the cache holds") {
  for (const Variant& variant : variants()) {
    for (const int bits : {32, 16, 8, 4}) {
      for (const int64_t dim : {8, 16, 24, 32, 64, 80, 128}) {
        for (const int64_t block_size : {16, 48}) {
          for (const auto& [first, rows] :
               {std::pair<int64_t, int64_t>{0, 1}, {0, 33}, {15, 1}, {16, 2}, {37, 5}, {100, 1}}) {
            const Sequence sequence(variant.ops, dim, block_size, bits, first + rows);
            for (const int64_t group : {1, 3, 8}) {
              const std::vector<float> q = random_floats(rows * group * dim, 57, 2.0f);
              const std::vector<float> out = sequence.attend(q.data(), group, first, rows);
              double worst = 0;
              for (int64_t i = 0; i < rows * group; ++i) {
                const std::vector<double> expected =
                    sequence.expected(q.data() + i * dim, first + i / group);
                for (size_t d = 0; d < expected.size(); ++d) {
                  const float got = out[static_cast<size_t>(i * dim) + d];
                  REQUIRE(std::isfinite(got));
                  worst = std::max(worst, std::abs(got - expected[d]));
                }
              }
              CAPTURE(variant.name);
              CAPTURE(bits);
              CAPTURE(dim);
              CAPTURE(first);
              CAPTURE(group);
              CHECK(worst <= attention_tolerance(bits) * 4);  // the largest |v| is about 4
            }
          }
        }
      }
    }
  }
}

TEST_CASE("a row of attention has the same bits alone, in a chunk and whatever the block size") {
  constexpr int64_t kLength = 83;
  for (const Variant& variant : variants()) {
    for (const int bits : {32, 16, 8, 4}) {
      for (const int64_t dim : {8, 32, 64}) {
        for (const int64_t group : {1, 2, 5}) {
          const int64_t width = group * dim;
          const Sequence sequence(variant.ops, dim, 16, bits, kLength);
          const Sequence larger_blocks(variant.ops, dim, 64, bits, kLength);
          const std::vector<float> q = random_floats(kLength * width, 61, 2.0f);
          std::vector<float> one_by_one;
          for (int64_t p = 0; p < kLength; ++p) {
            const std::vector<float> row = sequence.attend(q.data() + p * width, group, p, 1);
            one_by_one.insert(one_by_one.end(), row.begin(), row.end());
          }
          for (const int64_t chunk : {2, 3, 16, 17, 40, 83}) {
            std::vector<float> chunked;
            for (int64_t p = 0; p < kLength; p += chunk) {
              const std::vector<float> rows = larger_blocks.attend(q.data() + p * width, group, p,
                                                                   std::min(chunk, kLength - p));
              chunked.insert(chunked.end(), rows.begin(), rows.end());
            }
            CAPTURE(variant.name);
            CAPTURE(bits);
            CAPTURE(dim);
            CAPTURE(group);
            CAPTURE(chunk);
            CHECK(same_bits(chunked, one_by_one));
          }
        }
      }
    }
  }
}

TEST_CASE("a long context has the same bits in one call and split at any spans") {
  constexpr int64_t kLength = 2 * kAttentionSpan + 100;
  for (const Variant& variant : variants()) {
    for (const int bits : {32, 16, 8, 4}) {
      for (const auto& [group, rows] :
           {std::pair<int64_t, int64_t>{1, 1}, {8, 1}, {5, 3}, {2, 110}}) {
        constexpr int64_t kDim = 24;
        Sequence sequence(variant.ops, kDim, 48, bits, kLength);
        const std::vector<float> q = random_floats(rows * group * kDim, 67, 2.0f);
        const std::vector<float> whole = sequence.attend(q.data(), group, kLength - rows, rows);
        for (const std::vector<int64_t>& begins :
             {std::vector<int64_t>{0}, {1, 0}, {2, 0}, {2, 1, 0}}) {
          sequence.split_at(begins);
          CAPTURE(variant.name);
          CAPTURE(bits);
          CAPTURE(group);
          CAPTURE(rows);
          CHECK(same_bits(sequence.attend(q.data(), group, kLength - rows, rows), whole));
        }
        const std::vector<double> expected = sequence.expected(q.data(), kLength - rows);
        for (size_t d = 0; d < expected.size(); ++d) {
          CHECK(std::abs(whole[d] - expected[d]) <= attention_tolerance(bits) * 4);
        }
      }
    }
  }
}

TEST_CASE("attention over codes has the same bits with and without VNNI") {
#if defined(__x86_64__)
  if (!base::detect_cpu_features().avx512vnni || supported_isas().front() == Isa::kGeneric) return;
  OpTable vnni = op_table(Isa::kAvx512);
  OpTable words = vnni;
  vnni.attention = avx512::attention_vnni;
  words.attention = avx512::attention_words;
  constexpr int64_t kLength = 200;
  for (const int bits : {8, 4}) {
    for (const int64_t digits : {2, 3}) {
      Sequence with(vnni, 64, 16, bits, kLength);
      Sequence without(words, 64, 16, bits, kLength);
      with.use_digits(digits);
      without.use_digits(digits);
      const std::vector<float> q = random_floats(4 * 8 * 64, 73, 2.0f);
      CHECK(same_bits(with.attend(q.data(), 8, kLength - 4, 4),
                      without.attend(q.data(), 8, kLength - 4, 4)));
    }
  }
#endif
}

// With two digits q is off by at most half of 2^-15 of its largest element, which moves a score by
// at most e = scale * 2^-16 * max |q| * sum of |k| and a normalized weight by a factor within
// exp(+-2e); and a weight times V's scale is off by half of 2^-15 of the largest of its piece, 64
// such errors, of either sign, add up to about 8 times the range of V.
TEST_CASE("attention in two digits stays within what its rounding allows") {
  for (const Variant& variant : variants()) {
    for (const int bits : {8, 4}) {
      for (const int64_t dim : {8, 64, 128}) {
        for (const float spread : {0.5f, 8.0f}) {
          constexpr int64_t kLength = 300;
          Sequence sequence(variant.ops, dim, 16, bits, kLength);
          sequence.use_digits(2);
          const std::vector<float> q = random_floats(dim, 71, spread);
          const std::vector<float> out = sequence.attend(q.data(), 1, kLength - 1, 1);
          const std::vector<double> expected = sequence.expected(q.data(), kLength - 1);
          double largest = 0;
          for (const float value : q) largest = std::max<double>(largest, std::abs(value));
          const double sum_of_k = 1.5 * static_cast<double>(dim);  // |k| is 0.8 on average
          const double score_error =
              0x1p-16 * largest * sum_of_k / std::sqrt(static_cast<double>(dim));
          const double bound = 4 * std::expm1(2 * score_error) + 8 * 8 * 0x1p-16;  // |v| <= 4
          for (size_t d = 0; d < expected.size(); ++d) {
            CAPTURE(variant.name);
            CAPTURE(bits);
            CAPTURE(dim);
            CHECK(std::abs(out[d] - expected[d]) <= bound);
          }
        }
      }
    }
  }
}

TEST_CASE("attention survives scores far outside the range of exp") {
  for (const Variant& variant : variants()) {
    const Sequence sequence(variant.ops, 64, 16, 32, 40);
    const std::vector<float> q = random_floats(64, 63, 1e4f);
    const std::vector<float> out = sequence.attend(q.data(), 1, 39, 1);
    for (const float value : out) CHECK(std::isfinite(value));
  }
}

}  // namespace
}  // namespace lmrun::kernels::testing
