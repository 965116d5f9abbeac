// No std header with templates: see avx512.h. The arithmetic is that of the reference, operation
// for operation, so both write the same bytes.
#include "kernels/cpu/avx512.h"
#include "kernels/cpu/simd_avx512.h"

namespace lmrun::kernels::avx512 {
namespace {

using quant::KvLayout;

constexpr float kLargestF16 = 65504.0f;

LMRUN_INLINE __m512 clamp16(__m512 x, float low, float high) {
  return _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(low)), _mm512_set1_ps(high));
}

LMRUN_INLINE __m256i to_f16(__m512 x) {
  return _mm512_cvtps_ph(clamp16(x, -kLargestF16, kLargestF16),
                         _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// Per token: the scale and zero that are stored, and as the codes see them.
struct Params {
  __m512 scale;
  __m512 zero;
  float largest_code;
  bool constant;
};

LMRUN_INLINE __m512i codes_of(const Params& params, __m512 x) {
  if (params.constant) return _mm512_setzero_si512();
  const __m512 code =
      _mm512_roundscale_ps(_mm512_div_ps(_mm512_sub_ps(x, params.zero), params.scale),
                           _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return _mm512_cvtps_epi32(clamp16(code, 0.0f, params.largest_code));
}

Params write_params(const KvLayout& layout, const float* x, std::byte* part, int64_t slot) {
  __m512 low = _mm512_set1_ps(x[0]);
  __m512 high = low;
  for (int64_t d = 0; d < layout.head_dim; d += 16) {
    const __m512 v = _mm512_mask_loadu_ps(low, first_lanes(layout.head_dim - d), x + d);
    low = _mm512_min_ps(low, v);
    high = _mm512_mask_max_ps(high, first_lanes(layout.head_dim - d), high, v);
  }
  const float min = _mm512_reduce_min_ps(low);
  const float max = _mm512_reduce_max_ps(high);
  const float largest_code = static_cast<float>((1 << layout.bits) - 1);
  const __m256i scale = to_f16(_mm512_set1_ps((max - min) / largest_code));
  const __m256i zero = to_f16(_mm512_set1_ps(min));
  const __m128i both =
      _mm_unpacklo_epi16(_mm256_castsi256_si128(scale), _mm256_castsi256_si128(zero));
  _mm_storeu_si32(part + layout.params_offset() + slot * 4, both);
  const Params params = {_mm512_cvtph_ps(scale), _mm512_cvtph_ps(zero), largest_code,
                         _mm512_cvtss_f32(_mm512_cvtph_ps(scale)) == 0.0f};
  return params;
}

// The first `lanes` bytes of codes (one a lane) as bytes [from, from + lanes) of a slot's K vector;
// `from` and `lanes` are multiples of 4.
LMRUN_INLINE void store_key_codes(const KvLayout& layout, __m512i codes, int64_t from,
                                  int64_t lanes, std::byte* part, int64_t slot) {
  int32_t words[4];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(words), _mm512_cvtepi32_epi8(codes));
  for (int64_t w = 0; 4 * w < lanes; ++w) {
    __builtin_memcpy(part + layout.key_offset(slot, from + 4 * w), words + w, 4);
  }
}

// The same for a V vector: bytes of four slots lie side by side.
LMRUN_INLINE void store_value_codes(const KvLayout& layout, __m512i codes, int64_t from,
                                    int64_t lanes, std::byte* part, int64_t slot) {
  static_assert(quant::kKvValuesTogether == 4);
  const int64_t own = slot % 4;
  const __mmask64 all = lanes == 16 ? ~__mmask64{0} : (__mmask64{1} << (4 * lanes)) - 1;
  const __m512i shifted = _mm512_sll_epi32(codes, _mm_cvtsi32_si128(static_cast<int>(8 * own)));
  _mm512_mask_storeu_epi8(part + layout.value_offset(slot, from) - own,
                          all & (__mmask64{0x1111111111111111} << own), shifted);
}

template <bool kIsKey>
LMRUN_INLINE void store_codes(const KvLayout& layout, __m512i codes, int64_t from, int64_t lanes,
                              std::byte* part, int64_t slot) {
  if (kIsKey) {
    store_key_codes(layout, codes, from, lanes, part, slot);
  } else {
    store_value_codes(layout, codes, from, lanes, part, slot);
  }
}

// Elements of kBytes: K's lie 16 slots apart, V's side by side.
template <bool kIsKey, int kBytes>
LMRUN_INLINE void write_elements(const KvLayout& layout, const float* x, std::byte* part,
                                 int64_t slot) {
  const int64_t dim = layout.head_dim;
  std::byte* to = part + (kIsKey ? layout.key_offset(slot, 0) : layout.value_offset(slot, 0));
  constexpr int64_t kStep = kIsKey ? kBytes * quant::kKvKeysTogether : kBytes;
  for (int64_t d = 0; d < dim; d += 16) {
    const int64_t lanes = smaller(16, dim - d);
    const __m512 value = _mm512_maskz_loadu_ps(first_lanes(lanes), x + d);
    alignas(64) std::byte elements[64];
    if (kBytes == 4) {
      _mm512_store_ps(elements, value);
    } else {
      _mm256_store_si256(reinterpret_cast<__m256i*>(elements), to_f16(value));
    }
    for (int64_t i = 0; i < lanes; ++i) {
      __builtin_memcpy(to, elements + i * kBytes, kBytes);
      to += kStep;
    }
  }
}

template <bool kIsKey>
void write_vector(const KvLayout& layout, const float* x, std::byte* part, int64_t slot) {
  const int64_t dim = layout.head_dim;
  if (!layout.has_params()) {
    if (layout.bits == 32) {
      write_elements<kIsKey, 4>(layout, x, part, slot);
    } else {
      write_elements<kIsKey, 2>(layout, x, part, slot);
    }
    return;
  }
  const Params params = write_params(layout, x, part, slot);
  if (layout.bits == 8) {
    for (int64_t d = 0; d < dim; d += 16) {
      const int64_t lanes = smaller(16, dim - d);
      const __m512i code = codes_of(params, _mm512_maskz_loadu_ps(first_lanes(lanes), x + d));
      store_codes<kIsKey>(layout, code, d, lanes, part, slot);
    }
    return;
  }
  for (int64_t d = 0; d < dim / 2; d += 16) {
    const int64_t lanes = smaller(16, dim / 2 - d);
    const __mmask16 mask = first_lanes(lanes);
    const __m512i lower = codes_of(params, _mm512_maskz_loadu_ps(mask, x + d));
    const __m512i upper = codes_of(params, _mm512_maskz_loadu_ps(mask, x + dim / 2 + d));
    const __m512i pair = _mm512_or_si512(lower, _mm512_slli_epi32(upper, 4));
    store_codes<kIsKey>(layout, pair, d, lanes, part, slot);
  }
}

}  // namespace

void kv_write(const KvLayout& layout, const float* k, const float* v, std::byte* head,
              int64_t slot) {
  write_vector<true>(layout, k, head, slot);
  write_vector<false>(layout, v, head + layout.part_bytes(), slot);
}

}  // namespace lmrun::kernels::avx512
