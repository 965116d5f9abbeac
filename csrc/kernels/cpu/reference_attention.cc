#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/cpu/half.h"
#include "kernels/cpu/reference.h"

namespace lmrun::kernels::reference {
namespace {

using quant::KvLayout;

constexpr float kLargestF16 = 65504.0f;

float clamp_to_f16(float value) { return std::clamp(value, -kLargestF16, kLargestF16); }

// Scale and zero as stored; the codes and the reader both use the rounded values.
struct Params {
  uint16_t scale;
  uint16_t zero;
};

uint8_t code_of(float value, float scale, float zero, float largest_code) {
  if (scale == 0.0f) return 0;
  const float code = std::nearbyint((value - zero) / scale);
  return static_cast<uint8_t>(std::clamp(code, 0.0f, largest_code));
}

// Where byte `byte` of a slot's vector lies in a K or V part.
using Offset = int64_t (*)(const KvLayout& layout, int64_t slot, int64_t byte);

int64_t key_offset(const KvLayout& layout, int64_t slot, int64_t byte) {
  return layout.key_offset(slot, byte);
}

int64_t value_offset(const KvLayout& layout, int64_t slot, int64_t byte) {
  return layout.value_offset(slot, byte);
}

void write_vector(const KvLayout& layout, const float* x, Offset offset, std::byte* part,
                  int64_t slot) {
  const int64_t dim = layout.head_dim;
  if (layout.bits == 32) {
    for (int64_t d = 0; d < dim; ++d) std::memcpy(part + offset(layout, slot, d * 4), x + d, 4);
    return;
  }
  if (layout.bits == 16) {
    for (int64_t d = 0; d < dim; ++d) {
      const uint16_t half = f16_from_float(clamp_to_f16(x[d]));
      std::memcpy(part + offset(layout, slot, d * 2), &half, 2);
    }
    return;
  }
  const auto [low, high] = std::minmax_element(x, x + dim);
  const float largest_code = static_cast<float>((1 << layout.bits) - 1);
  const Params params = {f16_from_float(clamp_to_f16((*high - *low) / largest_code)),
                         f16_from_float(clamp_to_f16(*low))};
  std::memcpy(part + layout.params_offset() + slot * 4, &params, 4);
  const float scale = float_from_f16(params.scale);
  const float zero = float_from_f16(params.zero);
  if (layout.bits == 8) {
    for (int64_t d = 0; d < dim; ++d) {
      part[offset(layout, slot, d)] =
          static_cast<std::byte>(code_of(x[d], scale, zero, largest_code));
    }
    return;
  }
  for (int64_t d = 0; d < dim / 2; ++d) {
    const uint8_t lower = code_of(x[d], scale, zero, largest_code);
    const uint8_t upper = code_of(x[d + dim / 2], scale, zero, largest_code);
    part[offset(layout, slot, d)] = static_cast<std::byte>(lower | (upper << 4));
  }
}

void read_vector(const KvLayout& layout, const std::byte* part, Offset offset, int64_t slot,
                 float* x) {
  const int64_t dim = layout.head_dim;
  if (layout.bits == 32) {
    for (int64_t d = 0; d < dim; ++d) std::memcpy(x + d, part + offset(layout, slot, d * 4), 4);
    return;
  }
  if (layout.bits == 16) {
    for (int64_t d = 0; d < dim; ++d) {
      uint16_t half = 0;
      std::memcpy(&half, part + offset(layout, slot, d * 2), 2);
      x[d] = float_from_f16(half);
    }
    return;
  }
  Params params;
  std::memcpy(&params, part + layout.params_offset() + slot * 4, 4);
  const float scale = float_from_f16(params.scale);
  const float zero = float_from_f16(params.zero);
  if (layout.bits == 8) {
    for (int64_t d = 0; d < dim; ++d) {
      x[d] = static_cast<float>(static_cast<uint8_t>(part[offset(layout, slot, d)])) * scale + zero;
    }
    return;
  }
  for (int64_t d = 0; d < dim / 2; ++d) {
    const uint8_t pair = static_cast<uint8_t>(part[offset(layout, slot, d)]);
    x[d] = static_cast<float>(pair & 15) * scale + zero;
    x[d + dim / 2] = static_cast<float>(pair >> 4) * scale + zero;
  }
}

// K and V of one chunk, as f32 [num_positions, D].
struct Chunk {
  const float* k;
  const float* v;
  int64_t num_positions;
};

// One query head against one chunk: online softmax over max, sum and out.
void attend(const Chunk& chunk, const float* q, float scale, int64_t dim, float* max, float* sum,
            float* out) {
  float scores[kAttentionChunk];
  float new_max = *max;
  for (int64_t p = 0; p < chunk.num_positions; ++p) {
    float dot = 0;
    for (int64_t d = 0; d < dim; ++d) dot += q[d] * chunk.k[p * dim + d];
    scores[p] = dot * scale;
    new_max = std::max(new_max, scores[p]);
  }
  const float keep = std::exp(*max - new_max);
  *max = new_max;
  *sum *= keep;
  for (int64_t d = 0; d < dim; ++d) out[d] *= keep;
  for (int64_t p = 0; p < chunk.num_positions; ++p) {
    const float weight = std::exp(scores[p] - new_max);
    *sum += weight;
    for (int64_t d = 0; d < dim; ++d) out[d] += weight * chunk.v[p * dim + d];
  }
}

}  // namespace

void kv_write(const KvLayout& layout, const float* k, const float* v, std::byte* head,
              int64_t slot) {
  write_vector(layout, k, key_offset, head, slot);
  write_vector(layout, v, value_offset, head + layout.part_bytes(), slot);
}

namespace {

// A call's rows and heads: i counts the heads of row 0, then of row 1, and so on.
float* out_of(const AttentionArgs& args, int64_t i) {
  return args.out + i / args.group * args.out_stride + i % args.group * args.layout->head_dim;
}

int64_t num_heads(const AttentionArgs& args) { return args.num_rows * args.group; }

// Where attention leaves a span's sums of V, then the maximum and the sum.
float* partial_of(const AttentionArgs& args, int64_t span, int64_t i) {
  const int64_t each = attention_partial_floats(*args.layout, 1, 1);
  return args.partials + (span * num_heads(args) + i) * each;
}

// The state of a softmax: weighted sums of V, maximum, sum.
struct State {
  float* out;
  float* max;
  float* sum;
};

void clear(const State& state, int64_t dim) {
  std::fill_n(state.out, dim, 0.0f);
  *state.max = -std::numeric_limits<float>::infinity();
  *state.sum = 0;
}

void join(const State& span, int64_t dim, const State& total) {
  if (*span.max == -std::numeric_limits<float>::infinity()) return;  // the row ends before the span
  const float max = std::max(*total.max, *span.max);
  const float old_keep = std::exp(*total.max - max);
  const float keep = std::exp(*span.max - max);
  *total.max = max;
  *total.sum = *total.sum * old_keep + *span.sum * keep;
  for (int64_t d = 0; d < dim; ++d) total.out[d] = total.out[d] * old_keep + span.out[d] * keep;
}

// The softmaxes of a span, of each row that reaches it; `states` are clear.
template <typename StateOf>
void attend_span(const AttentionArgs& args, int64_t begin, int64_t end, StateOf&& state_of) {
  const KvLayout& layout = *args.layout;
  const int64_t dim = layout.head_dim;
  float* k = args.scratch;
  float* v = k + kAttentionChunk * dim;
  for (int64_t start = begin; start < end; start += kAttentionChunk) {
    const int64_t count = std::min(kAttentionChunk, end - start);
    const std::byte* part = args.pool +
                            args.block_table[start / layout.block_size] * layout.block_bytes +
                            layout.head_offset(args.kv_head);
    for (int64_t p = 0; p < count; ++p) {
      const int64_t slot = start % layout.block_size + p;
      read_vector(layout, part, key_offset, slot, k + p * dim);
      read_vector(layout, part + layout.part_bytes(), value_offset, slot, v + p * dim);
    }
    const int64_t first_row = std::max<int64_t>(0, start - args.first_position);
    for (int64_t r = first_row; r < args.num_rows; ++r) {
      const Chunk chunk = {k, v, std::min(count, args.first_position + r + 1 - start)};
      for (int64_t h = 0; h < args.group; ++h) {
        const State state = state_of(r * args.group + h);
        attend(chunk, args.q + r * args.q_stride + h * dim, args.scale, dim, state.max, state.sum,
               state.out);
      }
    }
  }
}

// Totals of all heads, kept in `sums`: [num_heads][maximum, sum].
State total_of(const AttentionArgs& args, float* sums, int64_t i) {
  return {out_of(args, i), sums + 2 * i, sums + 2 * i + 1};
}

void divide_by_sums(const AttentionArgs& args, float* sums) {
  for (int64_t i = 0; i < num_heads(args); ++i) {
    const State total = total_of(args, sums, i);
    for (int64_t d = 0; d < args.layout->head_dim; ++d) total.out[d] /= *total.sum;
  }
}

}  // namespace

void attention(const AttentionArgs& args) {
  const int64_t dim = args.layout->head_dim;
  const int64_t context = args.first_position + args.num_rows;
  float* sums = args.scratch + 2 * kAttentionChunk * dim;
  float* states = sums + 2 * num_heads(args);  // [num_heads][dim, maximum, sum]
  const bool joins = args.partials == nullptr;
  const int64_t last = joins ? attention_spans(context) : args.span_end;
  for (int64_t i = 0; joins && i < num_heads(args); ++i) clear(total_of(args, sums, i), dim);
  for (int64_t span = joins ? 0 : args.span_begin; span < last; ++span) {
    const auto state_of = [&](int64_t i) {
      float* state = joins ? states + i * (dim + 2) : partial_of(args, span, i);
      return State{state, state + dim, state + dim + 1};
    };
    for (int64_t i = 0; i < num_heads(args); ++i) clear(state_of(i), dim);
    const int64_t begin = span * kAttentionSpan;
    attend_span(args, begin, std::min(begin + kAttentionSpan, context), state_of);
    for (int64_t i = 0; joins && i < num_heads(args); ++i) {
      join(state_of(i), dim, total_of(args, sums, i));
    }
  }
  if (joins) divide_by_sums(args, sums);
}

void attention_join(const AttentionArgs& args) {
  const int64_t dim = args.layout->head_dim;
  float* sums = args.scratch;
  const int64_t spans = attention_spans(args.first_position + args.num_rows);
  for (int64_t i = 0; i < num_heads(args); ++i) {
    const State total = total_of(args, sums, i);
    clear(total, dim);
    for (int64_t span = 0; span < spans; ++span) {
      float* state = partial_of(args, span, i);
      join({state, state + dim, state + dim + 1}, dim, total);
    }
  }
  divide_by_sums(args, sums);
}

}  // namespace lmrun::kernels::reference
