// Attention over the paged cache, written once over a set of vector operations S (16 floats or 16
// int32 at a time). Included by the files that provide one, each with its own copy; no std header
// with templates: see avx512.h.
//
// A piece of 64 positions passes all query heads of all rows. Its scores have one position a lane,
// as K lies in the cache. Where K and V are codes, both products are exact sums of integers: q and,
// per piece, the weights of the softmax times V's scales become fixed-point numbers of 2 or 3
// signed digits of 8 bits, and scales and zero points join afterwards:
//   q k  = k.scale (q code) + k.zero sum(q)         per position
//   w v  = sum over p of (w v.scale) code + sum over p of w v.zero
#pragma once

#include "kernels/cpu/attention_piece_simd.h"

namespace lmrun::kernels {
namespace {

// A call's arguments with the state of its softmaxes.
struct Call {
  const AttentionArgs* args;
  int64_t dim;
  int64_t num_heads;  // of all rows
  float* states;      // [num_heads][state_floats]: the span at hand
  float* totals;      // [num_heads][2]: maximum and sum of the spans joined so far
  int8_t* digits;     // [num_heads][3][padded dim]: of q
  float* unpacked;    // [2][64][dim]: of a piece

  LMRUN_INLINE_METHOD int64_t state_floats() const { return padded(dim) + 3 * kLanes; }
  LMRUN_INLINE_METHOD Head head(int64_t i) const {
    const float* q = args->q + i / args->group * args->q_stride + i % args->group * dim;
    float* state = states + i * state_floats();
    float* sums = state + padded(dim);
    return {q, digits + i * 3 * padded(dim), state, sums, sums + kLanes, sums + 2 * kLanes};
  }
  LMRUN_INLINE_METHOD float* out(int64_t i) const {
    return args->out + i / args->group * args->out_stride + i % args->group * dim;
  }
  LMRUN_INLINE_METHOD float* partial(int64_t span, int64_t i) const {
    return args->partials + (span * num_heads + i) * (padded(dim) + kLanes);
  }
  // Positions of a piece that row i / group sees; the first of these heads sees at least one.
  LMRUN_INLINE_METHOD int64_t positions_seen(int64_t i, int64_t start) const {
    return least(kAttentionPiece, args->first_position + i / args->group + 1 - start);
  }
  LMRUN_INLINE_METHOD int64_t first_head(int64_t start) const {
    return most(0, start - args->first_position) * args->group;
  }
};

LMRUN_INLINE Call call_of(const AttentionArgs& args) {
  const int64_t dim = args.layout->head_dim;
  const int64_t num_heads = args.num_rows * args.group;
  Call call = {&args, dim, num_heads, nullptr, nullptr, nullptr, nullptr};
  call.unpacked =
      reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(args.scratch) + 63) & ~63ull);
  call.states = call.unpacked + 2 * kAttentionPiece * dim;
  call.totals = call.states + num_heads * call.state_floats();
  call.digits = reinterpret_cast<int8_t*>(call.totals + 2 * num_heads);
  return call;
}

// Joins a span's state to what was joined before: span after span, in order.
template <class S>
LMRUN_INLINE void join_span(const Call& call, int64_t i, const float* out, float max, float sum) {
  float* total = call.totals + 2 * i;
  if (max == -__builtin_inff()) return;  // the row ends before the span
  const float new_max = total[0] > max ? total[0] : max;
  const typename S::Floats old_keep = S::exp2(S::set(total[0] - new_max));
  const typename S::Floats keep = S::exp2(S::set(max - new_max));
  total[0] = new_max;
  total[1] = S::first(S::fma(S::set(sum), keep, S::mul(S::set(total[1]), old_keep)));
  for (int64_t d = 0; d < call.dim; d += kLanes) {
    float* to = call.out(i) + d;
    const auto old = S::mul(S::load_first(to, call.dim - d), old_keep);
    S::store_first(to, S::fma(S::load_first(out + d, call.dim - d), keep, old), call.dim - d);
  }
}

template <class S>
LMRUN_INLINE void begin_joining(const Call& call) {
  for (int64_t i = 0; i < call.num_heads; ++i) {
    call.totals[2 * i] = -__builtin_inff();
    call.totals[2 * i + 1] = 0.0f;
    for (int64_t d = 0; d < call.dim; d += kLanes) {
      S::store_first(call.out(i) + d, S::set(0.0f), call.dim - d);
    }
  }
}

template <class S>
LMRUN_INLINE void end_joining(const Call& call) {
  for (int64_t i = 0; i < call.num_heads; ++i) {
    const auto sum = S::set(call.totals[2 * i + 1]);
    for (int64_t d = 0; d < call.dim; d += kLanes) {
      float* out = call.out(i) + d;
      S::store_first(out, S::div(S::load_first(out, call.dim - d), sum), call.dim - d);
    }
  }
}

// Those of heads [i, i + kHeads) if all see `count` positions. Returns how many were taken.
template <class S, class Kernel, int kHeads>
LMRUN_INLINE int64_t attend_set(const Call& call, const Piece& piece, int64_t start, int64_t i) {
  const int64_t count = call.positions_seen(i, start);
  if (i + kHeads > call.num_heads || call.positions_seen(i + kHeads - 1, start) != count) return 0;
  Head heads[kHeads];
  for (int h = 0; h < kHeads; ++h) heads[h] = call.head(i + h);
  const float scale = call.args->scale * kLog2E;
  if (count == kAttentionPiece) {
    attend<S, Kernel, kHeads, true>(piece, heads, scale, count);
  } else {
    attend<S, Kernel, kHeads, false>(piece, heads, scale, count);
  }
  return kHeads;
}

template <class S, class Kernel>
void attend_all(const Call& call, const Piece& piece, int64_t start) {
  int64_t i = call.first_head(start);
  while (i < call.num_heads) {
    int64_t taken = attend_set<S, Kernel, Kernel::kMostHeads>(call, piece, start, i);
    if (taken == 0) taken = attend_set<S, Kernel, Kernel::kSomeHeads>(call, piece, start, i);
    if (taken == 0) taken = attend_set<S, Kernel, 1>(call, piece, start, i);
    i += taken;
  }
}

// Where the chunks of a piece lie; those past the context are not touched.
template <class Kernel>
void find_piece(const AttentionArgs& args, int64_t start, int64_t context, Piece* piece) {
  const KvLayout& layout = *args.layout;
  piece->dim = layout.head_dim;
  piece->code_bytes = layout.code_bytes();
  for (int c = 0; c < kPieceChunks; ++c) {
    const int64_t position = start + c * kLanes;
    if (position >= context) return;
    const int64_t slot = position % layout.block_size;
    const std::byte* keys = args.pool +
                            args.block_table[position / layout.block_size] * layout.block_bytes +
                            layout.head_offset(args.kv_head);
    const std::byte* values = keys + layout.part_bytes();
    piece->keys[c] = keys + slot * layout.code_bytes();
    piece->values[c] = values + slot * layout.code_bytes();
    Kernel::load_params(layout, keys, values, slot, context - position, c, piece);
  }
}

template <class S>
void prefetch_piece(const AttentionArgs& args, int64_t start, int64_t context) {
  const KvLayout& layout = *args.layout;
  for (int c = 0; c < kPieceChunks; ++c) {
    const int64_t position = start + c * kLanes;
    if (position >= context) return;
    const int64_t slot = position % layout.block_size;
    const std::byte* keys = args.pool +
                            args.block_table[position / layout.block_size] * layout.block_bytes +
                            layout.head_offset(args.kv_head) + slot * layout.code_bytes();
    for (int64_t i = 0; i < kLanes * layout.code_bytes(); i += 64) {
      S::prefetch(keys + i);
      S::prefetch(keys + layout.part_bytes() + i);
    }
  }
}

template <class S, class Kernel>
void attention_with(const AttentionArgs& args) {
  const Call call = call_of(args);
  const int64_t context = args.first_position + args.num_rows;
  const bool joins = args.partials == nullptr;
  const int64_t first = joins ? 0 : args.span_begin;
  const int64_t last = joins ? attention_spans(context) : args.span_end;
  for (int64_t i = 0; i < call.num_heads; ++i) {
    const Head head = call.head(i);
    Kernel::prepare(head, call.dim, args.scale * kLog2E, call.digits + i * 3 * padded(call.dim));
  }
  if (joins) begin_joining<S>(call);
  for (int64_t span = first; span < last; ++span) {
    const int64_t begin = span * kAttentionSpan;
    const int64_t end = least(begin + kAttentionSpan, context);
    for (int64_t i = 0; i < call.num_heads; ++i) {
      const Head head = call.head(i);
      *head.max = -__builtin_inff();
      for (int64_t d = 0; d < padded(call.dim) + 2 * kLanes; d += kLanes) {
        S::store(head.out + d, S::set(0.0f));  // and the sums that follow
      }
    }
    Piece piece;
    for (int64_t start = begin; start < end; start += kAttentionPiece) {
      find_piece<Kernel>(args, start, context, &piece);
      prefetch_piece<S>(args, start + kAttentionPiece, end);
      if constexpr (Kernel::kUnpacks) Kernel::unpack(end - start, call.unpacked, &piece);
      attend_all<S, Kernel>(call, piece, start);
    }
    for (int64_t i = 0; i < call.num_heads; ++i) {
      const Head head = call.head(i);
      const float sum = S::reduce_add(S::load(head.sums));
      const auto zero = S::set(S::reduce_add(S::load(head.zeros)));
      for (int64_t d = 0; d < call.dim; d += kLanes) {
        S::store(head.out + d, S::add(S::load(head.out + d), zero));
      }
      if (joins) {
        join_span<S>(call, i, head.out, *head.max, sum);
        continue;
      }
      float* partial = call.partial(span, i);
      for (int64_t d = 0; d < padded(call.dim); d += kLanes) {
        S::store(partial + d, S::load(head.out + d));
      }
      partial[padded(call.dim)] = *head.max;
      partial[padded(call.dim) + 1] = sum;
    }
  }
  if (joins) end_joining<S>(call);
}

template <class S>
void attention_join_of(const AttentionArgs& args) {
  const Call call = call_of(args);
  begin_joining<S>(call);
  const int64_t spans = attention_spans(args.first_position + args.num_rows);
  for (int64_t span = 0; span < spans; ++span) {
    for (int64_t i = 0; i < call.num_heads; ++i) {
      const float* partial = call.partial(span, i);
      const float* state = partial + padded(call.dim);
      join_span<S>(call, i, partial, state[0], state[1]);
    }
  }
  end_joining<S>(call);
}

template <class S>
void attention_of(const AttentionArgs& args) {
  switch (args.layout->bits) {
    case 32:
      return attention_with<S, FloatsKernel<S, 4>>(args);
    case 16:
      return args.num_rows * args.group < kHeadsToUnpackFor
                 ? attention_with<S, FloatsKernel<S, 2>>(args)
                 : attention_with<S, UnpackedKernel<S>>(args);
    case 8:
      return args.digits == 2 ? attention_with<S, CodesKernel<S, U8Cache, 2>>(args)
                              : attention_with<S, CodesKernel<S, U8Cache, 3>>(args);
    default:
      return args.digits == 2 ? attention_with<S, CodesKernel<S, U4Cache, 2>>(args)
                              : attention_with<S, CodesKernel<S, U4Cache, 3>>(args);
  }
}

}  // namespace
}  // namespace lmrun::kernels
