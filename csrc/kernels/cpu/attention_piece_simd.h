// What passes one piece of 64 positions of a paged cache: kernels of codes and of floats, and the
// softmax of some heads over a piece. The first half of attention_simd.h.
#pragma once

#include "kernels/cpu/simd.h"
#include "kernels/kernels.h"

namespace lmrun::kernels {
namespace {

using quant::KvLayout;

constexpr int64_t kLanes = 16;
constexpr int kPieceChunks = 4;
static_assert(kAttentionPiece == kPieceChunks * kLanes);
static_assert(quant::kKvKeysTogether == kLanes && quant::kKvValuesTogether == 4);
static_assert(kAttentionSpan % kAttentionPiece == 0);

// Softmaxes are of powers of two.
constexpr float kLog2E = 1.44269504f;

// Smaller magnitudes than this are fixed-point zeros: their unit would leave the floats.
constexpr float kSmallest = 1e-30f;

// Query heads for which a piece of 16 bits is converted to scratch.
constexpr int64_t kHeadsToUnpackFor = 24;

// What `digits` signed digits of 8 bits can say, less the rounding of a product.
template <int kDigits>
constexpr float kMost = kDigits == 2 ? 32639.0f - 0.25f : 8355711.0f - 4.0f;

LMRUN_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
LMRUN_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
LMRUN_INLINE int64_t padded(int64_t dim) { return (dim + kLanes - 1) / kLanes * kLanes; }

// Up to 64 positions of a context.
struct Piece {
  const std::byte* keys[kPieceChunks];  // of 16 positions each
  const std::byte* values[kPieceChunks];
  int64_t dim;
  int64_t code_bytes;
  // Of codes; 0 where nothing was written.
  alignas(64) float key_scale[kAttentionPiece];
  alignas(64) float key_zero[kAttentionPiece];
  alignas(64) float value_scale[kAttentionPiece];
  alignas(64) float value_zero[kAttentionPiece];
};

// One query head of one row in a span.
struct Head {
  const float* q;
  const int8_t* digits;  // of q: [digits][dim]
  float* out;            // [padded dim], not yet divided by the sum
  float* sums;           // [16]: of the weights, by position mod 16
  float* zeros;          // [16]: of the weights times V's zero points, likewise
  float* max;            // of the scores in powers of two; of codes beside it unit and sum of q
};

LMRUN_INLINE float& q_unit(const Head& head) { return head.max[1]; }
LMRUN_INLINE float& q_sum(const Head& head) { return head.max[2]; }

// Fixed-point digits of n values, 16 a time: x is about digits * unit.
template <class S, int kDigits>
LMRUN_INLINE void store_digits(typename S::Ints value, int8_t* digits, int64_t stride) {
  LMRUN_UNROLL
  for (int d = 0; d < kDigits; ++d) {  // the low byte is the digit; it is taken as signed
    S::store_low_bytes(digits + d * stride, value);
    value = S::template shift_right<8>(S::add(value, S::set_int(128)));
  }
}

template <class S, int kDigits>
LMRUN_INLINE typename S::Floats join_digits(const typename S::Ints* sums) {
  typename S::Floats joined = S::to_floats(sums[kDigits - 1]);
  LMRUN_UNROLL
  for (int d = kDigits - 2; d >= 0; --d) {
    joined = S::fma(joined, S::set(256.0f), S::to_floats(sums[d]));
  }
  return joined;
}

// K and V of 4 bits: byte j holds the codes of elements j and j + D/2.
struct U4Cache {
  template <class S>
  using Codes = typename S::Nibbles;
  template <class S>
  LMRUN_INLINE void codes(const std::byte* at, int64_t, int64_t lanes, Codes<S>* both) {
    S::nibbles(S::load_words(at, lanes), both);
  }
};

// K and V of 8 bits, elements j and j + D/2 side by side: the second half begins `half` bytes on.
struct U8Cache {
  template <class S>
  using Codes = typename S::Bytes;
  template <class S>
  LMRUN_INLINE void codes(const std::byte* at, int64_t half, int64_t lanes, Codes<S>* both) {
    both[0] = S::bytes(S::load_words(at, lanes));
    both[1] = S::bytes(S::load_words(at + half, lanes));
  }
};

template <class S, class Cache, int kDigits>
struct CodesKernel {
  using Floats = typename S::Floats;
  using Ints = typename S::Ints;

  // Query heads that go together: their sums stay in registers.
  static constexpr int kMostHeads = !S::kHas32Registers ? 1 : kDigits == 2 ? 4 : 3;
  static constexpr int kSomeHeads = S::kHas32Registers ? 2 : 1;
  static constexpr bool kUnpacks = false;

  static void prepare(const Head& head, int64_t dim, float scale, int8_t* digits) {
    Floats largest = S::set(0.0f);
    for (int64_t d = 0; d < dim; d += kLanes) {
      largest = S::max(S::abs(S::load_first(head.q + d, dim - d)), largest);
    }
    const float top = S::reduce_max(largest);
    const float factor = top > kSmallest ? kMost<kDigits> / top : 0.0f;
    Ints sum = S::set_int(0);
    for (int64_t d = 0; d < dim; d += kLanes) {
      const Ints value = S::round(S::mul(S::load_first(head.q + d, dim - d), S::set(factor)));
      sum = S::add(sum, value);
      store_digits<S, kDigits>(value, digits + d, padded(dim));
    }
    q_unit(head) = top > kSmallest ? top / kMost<kDigits> * scale : 0.0f;
    if (!(top < __builtin_inff())) q_unit(head) = __builtin_nanf("");  // and so is what comes of it
    q_sum(head) = static_cast<float>(S::reduce_sum(sum));
  }

  static void load_params(const KvLayout& layout, const std::byte* keys, const std::byte* values,
                          int64_t slot, int64_t count, int chunk, Piece* piece) {
    const int64_t at = layout.params_offset() + slot * 4;
    const auto key = S::load_words(keys + at, count);
    const auto value = S::load_words(values + at, count);
    S::store(piece->key_scale + chunk * kLanes, S::low_halves(key));
    S::store(piece->key_zero + chunk * kLanes, S::high_halves(key));
    S::store(piece->value_scale + chunk * kLanes, S::low_halves(value));
    S::store(piece->value_zero + chunk * kLanes, S::high_halves(value));
  }

  template <int kHeads>
  LMRUN_INLINE void scores(const Piece& piece, const Head* heads, float, int64_t chunks,
                           float (*scores)[kAttentionPiece]) {
    const int64_t dim = piece.dim;
    const int64_t half_words = dim / 8;
    const int64_t stride = padded(dim);
    const int8_t* q[kHeads];
    LMRUN_UNROLL
    for (int h = 0; h < kHeads; ++h) q[h] = heads[h].digits;
    for (int64_t c = 0; c < chunks; ++c) {
      Ints acc[kHeads][2][kDigits];
      LMRUN_UNROLL
      for (int h = 0; h < kHeads; ++h) {
        LMRUN_UNROLL
        for (int d = 0; d < kDigits; ++d) acc[h][0][d] = acc[h][1][d] = S::set_int(0);
      }
      const std::byte* keys = piece.keys[c];
      for (int64_t w = 0; w < half_words; ++w) {
        typename Cache::template Codes<S> codes[2];
        Cache::template codes<S>(keys + w * 64, half_words * 64, kLanes, codes);
        LMRUN_UNROLL
        for (int h = 0; h < kHeads; ++h) {
          LMRUN_UNROLL
          for (int d = 0; d < kDigits; ++d) {
            const int8_t* digits = q[h] + d * stride + 4 * w;
            acc[h][0][d] = S::dot(acc[h][0][d], codes[0], digits);
            acc[h][1][d] = S::dot(acc[h][1][d], codes[1], digits + dim / 2);
          }
        }
      }
      const Floats scale = S::load(piece.key_scale + c * kLanes);
      const Floats zero = S::load(piece.key_zero + c * kLanes);
      LMRUN_UNROLL
      for (int h = 0; h < kHeads; ++h) {
        Ints sums[kDigits];
        LMRUN_UNROLL
        for (int d = 0; d < kDigits; ++d) sums[d] = S::add(acc[h][0][d], acc[h][1][d]);
        const Floats score =
            S::fma(join_digits<S, kDigits>(sums), scale, S::mul(zero, S::set(q_sum(heads[h]))));
        S::store(scores[h] + c * kLanes, S::mul(score, S::set(q_unit(heads[h]))));
      }
    }
  }

  // weights: of the softmax, 0 where masked.
  template <int kHeads>
  LMRUN_INLINE void add_values(const Piece& piece, const Head* heads, const float* keep,
                               int64_t count, const float (*weights)[kAttentionPiece]) {
    const int64_t half = piece.dim / 2;
    const int64_t chunks = (count + kLanes - 1) / kLanes;
    alignas(64) int8_t digits[kHeads][kDigits][kAttentionPiece];
    float unit[kHeads];
    LMRUN_UNROLL
    for (int h = 0; h < kHeads; ++h) {
      Floats scaled[kPieceChunks];
      Floats largest = S::set(0.0f);
      Floats zeros = S::mul(S::load(heads[h].zeros), S::set(keep[h]));
      LMRUN_UNROLL
      for (int c = 0; c < kPieceChunks; ++c) {
        scaled[c] = S::set(0.0f);
        if (c >= chunks) continue;
        const Floats weight = S::load(weights[h] + c * kLanes);
        zeros = S::fma(weight, S::load(piece.value_zero + c * kLanes), zeros);
        scaled[c] = S::mul(weight, S::load(piece.value_scale + c * kLanes));
        largest = S::max(scaled[c], largest);
      }
      S::store(heads[h].zeros, zeros);
      const float top = S::reduce_max(largest);
      const float factor = top > kSmallest ? kMost<kDigits> / top : 0.0f;
      unit[h] = top > kSmallest ? top / kMost<kDigits> : 0.0f;
      LMRUN_UNROLL
      for (int c = 0; c < kPieceChunks; ++c) {
        store_digits<S, kDigits>(S::round(S::mul(scaled[c], S::set(factor))),
                                 digits[h][0] + c * kLanes, kAttentionPiece);
      }
    }
    for (int64_t d = 0; d < half; d += kLanes) {
      Ints acc[kHeads][2][kDigits];
      LMRUN_UNROLL
      for (int h = 0; h < kHeads; ++h) {
        LMRUN_UNROLL
        for (int i = 0; i < kDigits; ++i) acc[h][0][i] = acc[h][1][i] = S::set_int(0);
      }
      for (int64_t c = 0; c < chunks; ++c) {
        const std::byte* values = piece.values[c] + d * 4;
        LMRUN_UNROLL
        for (int64_t g = 0; g < 4; ++g) {
          typename Cache::template Codes<S> codes[2];
          Cache::template codes<S>(values + g * 4 * piece.code_bytes, half * 4, half - d, codes);
          LMRUN_UNROLL
          for (int h = 0; h < kHeads; ++h) {
            LMRUN_UNROLL
            for (int i = 0; i < kDigits; ++i) {
              const int8_t* four = digits[h][i] + c * kLanes + 4 * g;
              acc[h][0][i] = S::dot(acc[h][0][i], codes[0], four);
              acc[h][1][i] = S::dot(acc[h][1][i], codes[1], four);
            }
          }
        }
      }
      LMRUN_UNROLL
      for (int h = 0; h < kHeads; ++h) {
        LMRUN_UNROLL
        for (int side = 0; side < 2; ++side) {
          float* out = heads[h].out + side * half + d;
          const Floats kept = S::mul(S::load_first(out, half - d), S::set(keep[h]));
          S::store_first(out, S::fma(join_digits<S, kDigits>(acc[h][side]), S::set(unit[h]), kept),
                         half - d);
        }
      }
    }
  }
};

// K and V of 16 or 32 bits.
template <class S, int kBytes>
struct FloatsKernel {
  using Floats = typename S::Floats;

  // Query heads that go together, and registers a head: their sums stay in registers, and hide the
  // latency of each other.
  static constexpr int kMostHeads = S::kHas32Registers ? 4 : 2;
  static constexpr int kSomeHeads = S::kHas32Registers ? 2 : 1;
  template <int kHeads>
  static constexpr int kSideBySide = kHeads == 2 && !S::kHas32Registers ? 2 : 4;

  LMRUN_INLINE Floats element(const std::byte* at, int64_t lanes) {
    return kBytes == 2 ? S::load_halves(at, lanes)
                       : S::load_first(reinterpret_cast<const float*>(at), lanes);
  }

  static constexpr bool kUnpacks = false;
  static void prepare(const Head&, int64_t, float, int8_t*) {}
  static void load_params(const KvLayout&, const std::byte*, const std::byte*, int64_t, int64_t,
                          int, Piece*) {}

  // Chunks [first, first + kChunks): a chain a position, in order of d.
  template <int kHeads, int kChunks>
  LMRUN_INLINE void dots(const Piece& piece, const Head* heads, float scale, int64_t first,
                         float (*scores)[kAttentionPiece]) {
    Floats acc[kHeads][kChunks];
    LMRUN_UNROLL
    for (int h = 0; h < kHeads; ++h) {
      LMRUN_UNROLL
      for (int c = 0; c < kChunks; ++c) acc[h][c] = S::set(0.0f);
    }
    for (int64_t d = 0; d < piece.dim; ++d) {
      Floats keys[kChunks];
      LMRUN_UNROLL
      for (int c = 0; c < kChunks; ++c) {
        keys[c] = element(piece.keys[first + c] + d * kLanes * kBytes, kLanes);
      }
      LMRUN_UNROLL
      for (int h = 0; h < kHeads; ++h) {
        const Floats q = S::set(heads[h].q[d]);
        LMRUN_UNROLL
        for (int c = 0; c < kChunks; ++c) acc[h][c] = S::fma(q, keys[c], acc[h][c]);
      }
    }
    LMRUN_UNROLL
    for (int h = 0; h < kHeads; ++h) {
      LMRUN_UNROLL
      for (int c = 0; c < kChunks; ++c) {
        S::store(scores[h] + (first + c) * kLanes, S::mul(acc[h][c], S::set(scale)));
      }
    }
  }

  template <int kHeads>
  LMRUN_INLINE void scores(const Piece& piece, const Head* heads, float scale, int64_t chunks,
                           float (*scores)[kAttentionPiece]) {
    int64_t c = 0;
    for (; c + kSideBySide<kHeads> <= chunks; c += kSideBySide<kHeads>) {
      dots<kHeads, kSideBySide<kHeads>>(piece, heads, scale, c, scores);
    }
    for (; c < chunks; ++c) dots<kHeads, 1>(piece, heads, scale, c, scores);
  }

  // kVectors registers of out from `d` on, positions in order.
  template <int kHeads, int kVectors>
  LMRUN_INLINE void add_columns(const Piece& piece, const Head* heads, const float* keep,
                                int64_t count, const float (*weights)[kAttentionPiece], int64_t d) {
    const int64_t lanes = piece.dim - d;
    Floats acc[kHeads][kVectors];
    LMRUN_UNROLL
    for (int h = 0; h < kHeads; ++h) {
      LMRUN_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        acc[h][v] = S::mul(S::load(heads[h].out + d + kLanes * v), S::set(keep[h]));
      }
    }
    for (int64_t start = 0; start < count; start += kLanes) {
      const std::byte* at = piece.values[start / kLanes] + d * kBytes;
      for (int64_t p = start; p < least(start + kLanes, count); ++p) {
        Floats values[kVectors];
        LMRUN_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          values[v] = element(at + kLanes * v * kBytes, lanes - kLanes * v);
        }
        LMRUN_UNROLL
        for (int h = 0; h < kHeads; ++h) {
          const Floats weight = S::set(weights[h][p]);
          LMRUN_UNROLL
          for (int v = 0; v < kVectors; ++v) acc[h][v] = S::fma(weight, values[v], acc[h][v]);
        }
        at += piece.code_bytes;
      }
    }
    LMRUN_UNROLL
    for (int h = 0; h < kHeads; ++h) {
      LMRUN_UNROLL
      for (int v = 0; v < kVectors; ++v) S::store(heads[h].out + d + kLanes * v, acc[h][v]);
    }
  }

  template <int kHeads>
  LMRUN_INLINE void add_values(const Piece& piece, const Head* heads, const float* keep,
                               int64_t count, const float (*weights)[kAttentionPiece]) {
    int64_t d = 0;
    for (; d + kLanes * (kSideBySide<kHeads> - 1) < piece.dim; d += kLanes * kSideBySide<kHeads>) {
      add_columns<kHeads, kSideBySide<kHeads>>(piece, heads, keep, count, weights, d);
    }
    for (; d < piece.dim; d += 16) {
      add_columns<kHeads, 1>(piece, heads, keep, count, weights, d);
    }
  }
};

// K and V of 16 bits where many heads pass: a piece is converted once, to floats in scratch.
template <class S>
struct UnpackedKernel : FloatsKernel<S, 4> {
  static constexpr bool kUnpacks = true;

  static void unpack(int64_t count, float* to, Piece* piece) {
    const int64_t size = kLanes * piece->dim;  // of a chunk of K or V, elements in the same order
    for (int64_t c = 0; c < kPieceChunks && c * kLanes < count; ++c) {
      const std::byte* sources[2] = {piece->keys[c], piece->values[c]};
      for (int side = 0; side < 2; ++side) {
        // Elements of positions that were not written: K's meet no reader, V's neither.
        for (int64_t i = 0; i < size; i += kLanes) {
          S::store(to + i, S::load_halves(sources[side] + 2 * i, kLanes));
        }
        (side == 0 ? piece->keys : piece->values)[c] = reinterpret_cast<const std::byte*>(to);
        to += size;
      }
    }
    piece->code_bytes = 4 * piece->dim;
  }
};

// Heads that see the first `positions` of a piece, all 64 with kFull. The arithmetic of a head is
// the same however many go together.
template <class S, class Kernel, int kHeads, bool kFull>
[[gnu::noinline]] void attend(const Piece& piece, const Head* heads, float scale,
                              int64_t positions) {
  using Floats = typename S::Floats;
  const int64_t count = kFull ? kAttentionPiece : positions;
  const int64_t chunks = (count + kLanes - 1) / kLanes;
  alignas(64) float scores[kHeads][kAttentionPiece];
  alignas(64) float keep[kLanes] = {};
  Kernel::template scores<kHeads>(piece, heads, scale, chunks, scores);
  LMRUN_UNROLL
  for (int h = 0; h < kHeads; ++h) {
    Floats top = S::set(-__builtin_inff());
    for (int64_t c = 0; c < chunks; ++c) {
      Floats score = S::load(scores[h] + c * kLanes);
      if ((c + 1) * kLanes > count) {
        score = S::first_or(count - c * kLanes, score, S::set(-__builtin_inff()));
        S::store(scores[h] + c * kLanes, score);
      }
      top = S::max(score, top);
    }
    const float new_max = S::reduce_max(top);
    const float old_max = *heads[h].max;
    const float max = old_max > new_max ? old_max : new_max;
    keep[h] = old_max - max;
    *heads[h].max = max;
  }
  S::store(keep, S::exp2(S::load(keep)));
  LMRUN_UNROLL
  for (int h = 0; h < kHeads; ++h) {
    const Floats max = S::set(*heads[h].max);
    Floats sums = S::mul(S::load(heads[h].sums), S::set(keep[h]));
    for (int64_t c = 0; c < chunks; ++c) {
      const Floats weight = S::exp2(S::sub(S::load(scores[h] + c * kLanes), max));
      S::store(scores[h] + c * kLanes, weight);
      sums = S::add(sums, weight);
    }
    S::store(heads[h].sums, sums);
  }
  Kernel::template add_values<kHeads>(piece, heads, keep, count, scores);
}

}  // namespace
}  // namespace lmrun::kernels
