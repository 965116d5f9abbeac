// Attention over the paged cache. A chunk of 16 positions is dequantized once, K transposed
// ([D][16 positions], so that a score vector needs no sum across lanes) and V as it lies, and then
// used for every row and query head. No std header with templates: see avx512.h.
#include "kernels/cpu/avx512.h"
#include "kernels/cpu/simd_avx512.h"

namespace lmrun::kernels::avx512 {
namespace {

using quant::KvLayout;

static_assert(kAttentionChunk == 16);  // positions of a chunk are the lanes of a register

constexpr int kHeadsTogether = 4;
constexpr int kScoreChains = 4;

LMRUN_INLINE __m512 low_halves(__m512i words) {
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words));
}

LMRUN_INLINE __m512 high_halves(__m512i words) {
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(words, 16)));
}

LMRUN_INLINE __m512 code_values() {
  return _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
}

// A chunk's vectors of K or V in a block: `count` slots from `codes` on.
struct Stored {
  const std::byte* codes;
  const std::byte* params;  // {f16 scale, f16 zero} of the first slot
  int64_t count;
};

LMRUN_INLINE Stored stored_chunk(const KvLayout& layout, const std::byte* part, int64_t slot,
                                 int64_t count) {
  return {part + slot * layout.code_bytes(), part + layout.params_offset() + slot * 4, count};
}

// keys[d][p]; positions past the count are 0 or their zero point, never read from the block.
void unpack_keys(const KvLayout& layout, const Stored& stored, float* keys) {
  const int64_t dim = layout.head_dim;
  const int64_t words = layout.code_bytes() / 4;
  __m512 scale = _mm512_setzero_ps();
  __m512 zero = _mm512_setzero_ps();
  if (layout.has_params()) {
    const __m512i params = _mm512_maskz_loadu_epi32(first_lanes(stored.count), stored.params);
    scale = low_halves(params);
    zero = high_halves(params);
  }
  for (int64_t first = 0; first < words; first += 16) {
    const __mmask16 mask = first_lanes(words - first);
    __m512i block[16];
    for (int64_t p = 0; p < 16; ++p) {
      block[p] = p < stored.count ? _mm512_maskz_loadu_epi32(
                                        mask, stored.codes + p * layout.code_bytes() + first * 4)
                                  : _mm512_setzero_si512();
    }
    transpose16(block);  // block[j]: word first + j of the 16 positions
    const int64_t valid = smaller(16, words - first);
    for (int64_t j = 0; j < valid; ++j) {
      const __m512i word = block[j];
      const int64_t w = first + j;
      if (layout.bits == 32) {
        _mm512_storeu_si512(keys + w * 16, word);
      } else if (layout.bits == 16) {
        _mm512_storeu_ps(keys + 2 * w * 16, low_halves(word));
        _mm512_storeu_ps(keys + (2 * w + 1) * 16, high_halves(word));
      } else if (layout.bits == 8) {
        const __m512i byte = _mm512_set1_epi32(0xFF);
        const __m512i codes[4] = {
            _mm512_and_si512(word, byte), _mm512_and_si512(_mm512_srli_epi32(word, 8), byte),
            _mm512_and_si512(_mm512_srli_epi32(word, 16), byte), _mm512_srli_epi32(word, 24)};
        LMRUN_UNROLL
        for (int b = 0; b < 4; ++b) {
          _mm512_storeu_ps(keys + (4 * w + b) * 16,
                           _mm512_fmadd_ps(_mm512_cvtepi32_ps(codes[b]), scale, zero));
        }
      } else {
        const __m512i codes[4] = {word, _mm512_srli_epi32(word, 8), _mm512_srli_epi32(word, 16),
                                  _mm512_srli_epi32(word, 24)};
        LMRUN_UNROLL
        for (int b = 0; b < 4; ++b) {
          const __m512 lower = _mm512_permutexvar_ps(codes[b], code_values());
          const __m512 upper = _mm512_permutexvar_ps(_mm512_srli_epi32(codes[b], 4), code_values());
          _mm512_storeu_ps(keys + (4 * w + b) * 16, _mm512_fmadd_ps(lower, scale, zero));
          _mm512_storeu_ps(keys + (dim / 2 + 4 * w + b) * 16, _mm512_fmadd_ps(upper, scale, zero));
        }
      }
    }
  }
}

// values[p][stride], the first `count` positions.
void unpack_values(const KvLayout& layout, const Stored& stored, int64_t stride, float* values) {
  const int64_t dim = layout.head_dim;
  __m512 scale = _mm512_setzero_ps();
  __m512 zero = _mm512_setzero_ps();
  for (int64_t p = 0; p < stored.count; ++p) {
    const std::byte* codes = stored.codes + p * layout.code_bytes();
    float* out = values + p * stride;
    if (layout.has_params()) {
      const __m512 params =
          _mm512_cvtph_ps(_mm256_castsi128_si256(_mm_loadu_si32(stored.params + p * 4)));
      scale = _mm512_permutexvar_ps(_mm512_setzero_si512(), params);
      zero = _mm512_permutexvar_ps(_mm512_set1_epi32(1), params);
    }
    if (layout.bits == 4) {
      for (int64_t d = 0; d < dim / 2; d += 16) {
        const __mmask16 mask = first_lanes(dim / 2 - d);
        const __m512i pairs = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, codes + d));
        const __m512 lower = _mm512_permutexvar_ps(pairs, code_values());
        const __m512 upper = _mm512_permutexvar_ps(_mm512_srli_epi32(pairs, 4), code_values());
        _mm512_mask_storeu_ps(out + d, mask, _mm512_fmadd_ps(lower, scale, zero));
        _mm512_mask_storeu_ps(out + dim / 2 + d, mask, _mm512_fmadd_ps(upper, scale, zero));
      }
      continue;
    }
    for (int64_t d = 0; d < dim; d += 16) {
      const __mmask16 mask = first_lanes(dim - d);
      __m512 value;
      if (layout.bits == 32) {
        value = _mm512_maskz_loadu_ps(mask, codes + d * 4);
      } else if (layout.bits == 16) {
        value = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, codes + d * 2));
      } else {
        const __m512i code = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, codes + d));
        value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(code), scale, zero);
      }
      _mm512_mask_storeu_ps(out + d, mask, value);
    }
  }
}

// Codes of the next chunk, so that its lines are on their way while this one is computed.
void prefetch(const KvLayout& layout, const std::byte* part, int64_t slot) {
  const char* codes = reinterpret_cast<const char*>(part + slot * layout.code_bytes());
  for (int64_t i = 0; i < kAttentionChunk * layout.code_bytes(); i += 64) {
    _mm_prefetch(codes + i, _MM_HINT_T0);
  }
}

struct Chunk {
  const float* keys;    // [D][16]
  const float* values;  // [16][stride]
  int64_t stride;
  int64_t dim;
  float scale;
};

// One query head of one row.
struct Head {
  const float* q;
  float* out;
  float* max;
  float* sum;
};

// out = out * keep + probabilities · values, positions in order, kVectors registers from `d` on.
template <int kHeads, int kVectors>
LMRUN_INLINE void add_values(const Chunk& chunk, const Head* heads, int64_t d, int64_t count,
                             const float* keep, const float (*weights)[16]) {
  __mmask16 masks[kVectors];
  __m512 acc[kHeads][kVectors];
  LMRUN_UNROLL
  for (int v = 0; v < kVectors; ++v) masks[v] = first_lanes(chunk.dim - d - 16 * v);
  LMRUN_UNROLL
  for (int h = 0; h < kHeads; ++h) {
    LMRUN_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      acc[h][v] = _mm512_mul_ps(_mm512_maskz_loadu_ps(masks[v], heads[h].out + d + 16 * v),
                                _mm512_set1_ps(keep[h]));
    }
  }
  for (int64_t p = 0; p < count; ++p) {
    __m512 values[kVectors];
    LMRUN_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      values[v] = _mm512_maskz_loadu_ps(masks[v], chunk.values + p * chunk.stride + d + 16 * v);
    }
    LMRUN_UNROLL
    for (int h = 0; h < kHeads; ++h) {
      const __m512 weight = _mm512_set1_ps(weights[h][p]);
      LMRUN_UNROLL
      for (int v = 0; v < kVectors; ++v) acc[h][v] = _mm512_fmadd_ps(weight, values[v], acc[h][v]);
    }
  }
  LMRUN_UNROLL
  for (int h = 0; h < kHeads; ++h) {
    LMRUN_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      _mm512_mask_storeu_ps(heads[h].out + d + 16 * v, masks[v], acc[h][v]);
    }
  }
}

// Heads that see the first `count` positions of the chunk. The arithmetic of a head is the same
// however many go together.
template <int kHeads>
void attend(const Chunk& chunk, const Head* heads, int64_t count) {
  __m512 dots[kHeads][kScoreChains];
  LMRUN_UNROLL
  for (int h = 0; h < kHeads; ++h) {
    LMRUN_UNROLL
    for (int j = 0; j < kScoreChains; ++j) dots[h][j] = _mm512_setzero_ps();
  }
  for (int64_t d = 0; d < chunk.dim; d += kScoreChains) {
    LMRUN_UNROLL
    for (int j = 0; j < kScoreChains; ++j) {
      const __m512 key = _mm512_loadu_ps(chunk.keys + (d + j) * 16);
      LMRUN_UNROLL
      for (int h = 0; h < kHeads; ++h) {
        dots[h][j] = _mm512_fmadd_ps(_mm512_set1_ps(heads[h].q[d + j]), key, dots[h][j]);
      }
    }
  }
  const __mmask16 seen = first_lanes(count);
  alignas(64) float weights[kHeads][16];
  float keep[kHeads];
  LMRUN_UNROLL
  for (int h = 0; h < kHeads; ++h) {
    const __m512 dot =
        _mm512_add_ps(_mm512_add_ps(dots[h][0], dots[h][1]), _mm512_add_ps(dots[h][2], dots[h][3]));
    const __m512 score = _mm512_mask_mul_ps(_mm512_set1_ps(-__builtin_inff()), seen, dot,
                                            _mm512_set1_ps(chunk.scale));
    const float chunk_max = _mm512_reduce_max_ps(score);
    const float max = *heads[h].max > chunk_max ? *heads[h].max : chunk_max;
    const __m512 weight =
        _mm512_maskz_mov_ps(seen, exp16(_mm512_sub_ps(score, _mm512_set1_ps(max))));
    _mm512_store_ps(weights[h], weight);
    keep[h] = _mm512_cvtss_f32(exp16(_mm512_set1_ps(*heads[h].max - max)));
    *heads[h].sum = *heads[h].sum * keep[h] + _mm512_reduce_add_ps(weight);
    *heads[h].max = max;
  }
  int64_t d = 0;
  for (; d + 48 < chunk.dim; d += 64) add_values<kHeads, 4>(chunk, heads, d, count, keep, weights);
  for (; d < chunk.dim; d += 16) add_values<kHeads, 1>(chunk, heads, d, count, keep, weights);
}

// A call's arguments with the running state of its softmaxes.
struct Rows {
  const AttentionArgs* args;
  float* max;  // [num_rows, group]
  float* sum;  // likewise

  LMRUN_INLINE_METHOD Head head(int64_t i) const {
    const int64_t row = i / args->group;
    const int64_t offset = i % args->group * args->layout->head_dim;
    return {args->q + row * args->q_stride + offset, args->out + row * args->out_stride + offset,
            max + i, sum + i};
  }
  LMRUN_INLINE_METHOD int64_t positions_seen(int64_t i, int64_t start) const {
    return smaller(kAttentionChunk, args->first_position + i / args->group + 1 - start);
  }
};

void attend_all(const Rows& rows, const Chunk& chunk, int64_t start) {
  const AttentionArgs& args = *rows.args;
  const int64_t num_heads = args.num_rows * args.group;
  int64_t i = larger(0, start - args.first_position) * args.group;
  while (i < num_heads) {
    const int64_t count = rows.positions_seen(i, start);
    const bool together = i + kHeadsTogether <= num_heads &&
                          rows.positions_seen(i + kHeadsTogether - 1, start) == count;
    Head heads[kHeadsTogether];
    if (together) {
      for (int64_t h = 0; h < kHeadsTogether; ++h) heads[h] = rows.head(i + h);
      attend<kHeadsTogether>(chunk, heads, count);
      i += kHeadsTogether;
    } else {
      heads[0] = rows.head(i);
      attend<1>(chunk, heads, count);
      i += 1;
    }
  }
}

}  // namespace

void attention(const AttentionArgs& args) {
  const KvLayout& layout = *args.layout;
  const int64_t dim = layout.head_dim;
  const int64_t stride = (dim + 15) / 16 * 16;
  const int64_t num_heads = args.num_rows * args.group;
  float* keys = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(args.scratch) + 63) & ~63ull);
  float* values = keys + kAttentionChunk * stride;
  float* max = values + kAttentionChunk * stride;
  const Rows rows = {&args, max, max + num_heads};
  for (int64_t i = 0; i < num_heads; ++i) {
    const Head head = rows.head(i);
    *head.max = -__builtin_inff();
    *head.sum = 0;
    for (int64_t d = 0; d < dim; d += 16) {
      _mm512_mask_storeu_ps(head.out + d, first_lanes(dim - d), _mm512_setzero_ps());
    }
  }

  const int64_t context = args.first_position + args.num_rows;
  const Chunk chunk = {keys, values, stride, dim, args.scale};
  const auto part_of = [&](int64_t start) {
    return args.pool + args.block_table[start / layout.block_size] * layout.block_bytes +
           layout.head_offset(args.kv_head);
  };
  for (int64_t start = 0; start < context; start += kAttentionChunk) {
    const int64_t slot = start % layout.block_size;
    const int64_t count = smaller(kAttentionChunk, context - start);
    const std::byte* part = part_of(start);
    if (const int64_t next = start + kAttentionChunk; next < context) {
      prefetch(layout, part_of(next), next % layout.block_size);
      prefetch(layout, part_of(next) + layout.part_bytes(), next % layout.block_size);
    }
    unpack_keys(layout, stored_chunk(layout, part, slot, count), keys);
    unpack_values(layout, stored_chunk(layout, part + layout.part_bytes(), slot, count), stride,
                  values);
    attend_all(rows, chunk, start);
  }

  for (int64_t i = 0; i < num_heads; ++i) {
    const Head head = rows.head(i);
    const __m512 sum = _mm512_set1_ps(*head.sum);
    for (int64_t d = 0; d < dim; d += 16) {
      const __mmask16 mask = first_lanes(dim - d);
      const __m512 out = _mm512_maskz_loadu_ps(mask, head.out + d);
      _mm512_mask_storeu_ps(head.out + d, mask, _mm512_div_ps(out, sum));
    }
  }
}

}  // namespace lmrun::kernels::avx512
