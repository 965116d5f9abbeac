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

void write_vector(const KvLayout& layout, const float* x, std::byte* part, int64_t slot) {
  const int64_t dim = layout.head_dim;
  std::byte* codes = part + slot * layout.code_bytes();
  if (layout.bits == 32) {
    std::memcpy(codes, x, static_cast<size_t>(dim) * 4);
    return;
  }
  if (layout.bits == 16) {
    for (int64_t d = 0; d < dim; ++d) {
      const uint16_t half = f16_from_float(clamp_to_f16(x[d]));
      std::memcpy(codes + d * 2, &half, 2);
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
      codes[d] = static_cast<std::byte>(code_of(x[d], scale, zero, largest_code));
    }
    return;
  }
  for (int64_t d = 0; d < dim / 2; ++d) {
    const uint8_t lower = code_of(x[d], scale, zero, largest_code);
    const uint8_t upper = code_of(x[d + dim / 2], scale, zero, largest_code);
    codes[d] = static_cast<std::byte>(lower | (upper << 4));
  }
}

void read_vector(const KvLayout& layout, const std::byte* part, int64_t slot, float* x) {
  const int64_t dim = layout.head_dim;
  const std::byte* codes = part + slot * layout.code_bytes();
  if (layout.bits == 32) {
    std::memcpy(x, codes, static_cast<size_t>(dim) * 4);
    return;
  }
  if (layout.bits == 16) {
    for (int64_t d = 0; d < dim; ++d) {
      uint16_t half = 0;
      std::memcpy(&half, codes + d * 2, 2);
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
      x[d] = static_cast<float>(static_cast<uint8_t>(codes[d])) * scale + zero;
    }
    return;
  }
  for (int64_t d = 0; d < dim / 2; ++d) {
    const uint8_t pair = static_cast<uint8_t>(codes[d]);
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
  write_vector(layout, k, head, slot);
  write_vector(layout, v, head + layout.part_bytes(), slot);
}

void attention(const AttentionArgs& args) {
  const KvLayout& layout = *args.layout;
  const int64_t dim = layout.head_dim;
  float* k = args.scratch;
  float* v = k + kAttentionChunk * dim;
  float* max = v + kAttentionChunk * dim;
  float* sum = max + args.num_rows * args.group;
  for (int64_t i = 0; i < args.num_rows * args.group; ++i) {
    max[i] = -std::numeric_limits<float>::infinity();
    sum[i] = 0;
    std::fill_n(args.out + i / args.group * args.out_stride + i % args.group * dim, dim, 0.0f);
  }
  const int64_t context = args.first_position + args.num_rows;
  for (int64_t start = 0; start < context; start += kAttentionChunk) {
    const int64_t count = std::min(kAttentionChunk, context - start);
    const std::byte* part = args.pool +
                            args.block_table[start / layout.block_size] * layout.block_bytes +
                            layout.head_offset(args.kv_head);
    for (int64_t p = 0; p < count; ++p) {
      const int64_t slot = start % layout.block_size + p;
      read_vector(layout, part, slot, k + p * dim);
      read_vector(layout, part + layout.part_bytes(), slot, v + p * dim);
    }
    const int64_t first_row = std::max<int64_t>(0, start - args.first_position);
    for (int64_t r = first_row; r < args.num_rows; ++r) {
      const Chunk chunk = {k, v, std::min(count, args.first_position + r + 1 - start)};
      for (int64_t h = 0; h < args.group; ++h) {
        const int64_t i = r * args.group + h;
        attend(chunk, args.q + r * args.q_stride + h * dim, args.scale, dim, max + i, sum + i,
               args.out + r * args.out_stride + h * dim);
      }
    }
  }
  for (int64_t i = 0; i < args.num_rows * args.group; ++i) {
    float* out = args.out + i / args.group * args.out_stride + i % args.group * dim;
    for (int64_t d = 0; d < dim; ++d) out[d] /= sum[i];
  }
}

}  // namespace lmrun::kernels::reference
