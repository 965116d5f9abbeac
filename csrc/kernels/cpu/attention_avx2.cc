// Attention on AVX2 with FMA and F16C: 16 floats are two registers. No std header with templates:
// see avx512.h.
#include "kernels/cpu/attention_simd.h"
#include "kernels/cpu/avx2.h"

namespace lmrun::kernels::avx2 {
namespace {

struct Vectors {
  struct Floats {
    __m256 low, high;
  };
  struct Ints {
    __m256i low, high;
  };
  struct Bytes {  // of 8 bits: bytes 0 and 2 of each dword, and bytes 1 and 3
    Ints even, odd;
  };
  struct Nibbles {  // of 4 bits
    Ints codes;
  };
  static constexpr bool kHas32Registers = false;

  // All bits of the first `lanes` lanes.
  LMRUN_INLINE Ints first_lanes(int64_t lanes) {
    const __m256i count = _mm256_set1_epi32(static_cast<int>(least(lanes, kLanes)));
    return {_mm256_cmpgt_epi32(count, _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0)),
            _mm256_cmpgt_epi32(count, _mm256_set_epi32(15, 14, 13, 12, 11, 10, 9, 8))};
  }
  LMRUN_INLINE Floats set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  LMRUN_INLINE Ints set_int(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
  LMRUN_INLINE float first(Floats x) { return _mm256_cvtss_f32(x.low); }
  LMRUN_INLINE Floats load(const float* at) {
    return {_mm256_loadu_ps(at), _mm256_loadu_ps(at + 8)};
  }
  LMRUN_INLINE void store(float* at, Floats x) {
    _mm256_storeu_ps(at, x.low);
    _mm256_storeu_ps(at + 8, x.high);
  }
  // The first `lanes` lanes, all where there are more; the others are 0.
  LMRUN_INLINE Floats load_first(const float* at, int64_t lanes) {
    if (lanes >= kLanes) return load(at);
    const Ints mask = first_lanes(lanes);
    return {_mm256_maskload_ps(at, mask.low), _mm256_maskload_ps(at + 8, mask.high)};
  }
  LMRUN_INLINE void store_first(float* at, Floats x, int64_t lanes) {
    if (lanes >= kLanes) return store(at, x);
    const Ints mask = first_lanes(lanes);
    _mm256_maskstore_ps(at, mask.low, x.low);
    _mm256_maskstore_ps(at + 8, mask.high, x.high);
  }
  LMRUN_INLINE Floats load_halves(const std::byte* at, int64_t lanes) {
    uint16_t halves[kLanes] = {};
    if (lanes < kLanes) {
      for (int64_t i = 0; i < lanes; ++i) __builtin_memcpy(halves + i, at + 2 * i, 2);
      at = reinterpret_cast<const std::byte*>(halves);
    }
    const auto* from = reinterpret_cast<const __m128i*>(at);
    return {_mm256_cvtph_ps(_mm_loadu_si128(from)), _mm256_cvtph_ps(_mm_loadu_si128(from + 1))};
  }
  LMRUN_INLINE Ints load_words(const std::byte* at, int64_t lanes) {
    const auto* from = reinterpret_cast<const __m256i*>(at);
    if (lanes >= kLanes) return {_mm256_loadu_si256(from), _mm256_loadu_si256(from + 1)};
    const Ints mask = first_lanes(lanes);
    const auto* words = reinterpret_cast<const int*>(at);
    return {_mm256_maskload_epi32(words, mask.low), _mm256_maskload_epi32(words + 8, mask.high)};
  }
  LMRUN_INLINE Floats first_or(int64_t lanes, Floats x, Floats other) {
    const Ints mask = first_lanes(lanes);
    return {_mm256_blendv_ps(other.low, x.low, _mm256_castsi256_ps(mask.low)),
            _mm256_blendv_ps(other.high, x.high, _mm256_castsi256_ps(mask.high))};
  }
  // Of words below 2^16.
  LMRUN_INLINE __m256 halves_to_floats(__m256i words) {
    return _mm256_cvtph_ps(
        _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  }
  LMRUN_INLINE Floats low_halves(Ints words) {
    const __m256i mask = _mm256_set1_epi32(0xFFFF);
    return {halves_to_floats(_mm256_and_si256(words.low, mask)),
            halves_to_floats(_mm256_and_si256(words.high, mask))};
  }
  LMRUN_INLINE Floats high_halves(Ints words) {
    return {halves_to_floats(_mm256_srli_epi32(words.low, 16)),
            halves_to_floats(_mm256_srli_epi32(words.high, 16))};
  }
  LMRUN_INLINE void store_low_bytes(int8_t* at, Ints x) {
    const __m256i mask = _mm256_set1_epi32(0xFF);
    const __m256i words =
        _mm256_packus_epi32(_mm256_and_si256(x.low, mask), _mm256_and_si256(x.high, mask));
    const __m256i bytes = _mm256_packus_epi16(words, words);
    const __m256i order = _mm256_set_epi32(0, 0, 0, 0, 5, 1, 4, 0);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at),
                     _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(bytes, order)));
  }
  LMRUN_INLINE Floats add(Floats a, Floats b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
  }
  LMRUN_INLINE Ints add(Ints a, Ints b) {
    return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
  }
  LMRUN_INLINE Floats sub(Floats a, Floats b) {
    return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
  }
  LMRUN_INLINE Floats mul(Floats a, Floats b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
  }
  LMRUN_INLINE Floats div(Floats a, Floats b) {
    return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
  }
  LMRUN_INLINE Floats fma(Floats a, Floats b, Floats c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
  }
  // The second where one is NaN.
  LMRUN_INLINE Floats max(Floats a, Floats b) {
    return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
  }
  LMRUN_INLINE Floats abs(Floats a) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
  }
  // 2^x for x <= 0: the polynomial of simd_avx512.h; below 2^-126 it is 0, NaN stays NaN.
  LMRUN_INLINE __m256 exp2_8(__m256 x) {
    const __m256 n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256 f = _mm256_sub_ps(x, n);
    __m256 p = _mm256_set1_ps(1.3264727247e-3f);
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(9.6715126882e-3f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(5.5507337436e-2f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(2.4022242085e-1f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(6.9314697760e-1f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0f));
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    const __m256 power = _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
    const __m256 is_tiny = _mm256_cmp_ps(x, _mm256_set1_ps(-126.0f), _CMP_LT_OQ);
    return _mm256_andnot_ps(is_tiny, _mm256_mul_ps(p, power));
  }
  LMRUN_INLINE Floats exp2(Floats x) { return {exp2_8(x.low), exp2_8(x.high)}; }
  LMRUN_INLINE Ints round(Floats x) {
    return {_mm256_cvtps_epi32(x.low), _mm256_cvtps_epi32(x.high)};
  }
  LMRUN_INLINE Floats to_floats(Ints x) {
    return {_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)};
  }
  template <int kBits>
  LMRUN_INLINE Ints shift_right(Ints x) {
    return {_mm256_srai_epi32(x.low, kBits), _mm256_srai_epi32(x.high, kBits)};
  }
  LMRUN_INLINE float reduce_max(Floats x) {
    const __m256 eight = _mm256_max_ps(x.low, x.high);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
  }
  LMRUN_INLINE float reduce_add(Floats x) {
    const __m256 eight = _mm256_add_ps(x.low, x.high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
  }
  LMRUN_INLINE int32_t reduce_sum(Ints x) {
    const __m256i eight = _mm256_add_epi32(x.low, x.high);
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1)));
  }
  LMRUN_INLINE void prefetch(const std::byte* at) {
    _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T0);
  }
  LMRUN_INLINE Ints both_and(Ints x, __m256i mask) {
    return {_mm256_and_si256(x.low, mask), _mm256_and_si256(x.high, mask)};
  }
  LMRUN_INLINE Bytes bytes(Ints codes) {
    return {both_and(codes, _mm256_set1_epi32(0x00FF00FF)),
            {_mm256_srli_epi16(codes.low, 8), _mm256_srli_epi16(codes.high, 8)}};
  }
  // The low and the high four bits of each byte.
  LMRUN_INLINE void nibbles(Ints codes, Nibbles* both) {
    const __m256i mask = _mm256_set1_epi8(15);
    both[0] = {both_and(codes, mask)};
    both[1] = {both_and({_mm256_srli_epi16(codes.low, 4), _mm256_srli_epi16(codes.high, 4)}, mask)};
  }
  // Four bytes, in every lane.
  LMRUN_INLINE __m256i four_bytes(const int8_t* at) {
    int32_t word = 0;
    __builtin_memcpy(&word, at, sizeof(word));
    return _mm256_set1_epi32(word);
  }
  // sum + the four products of a lane: codes unsigned, digits signed and the same in all lanes.
  // Codes of 4 bits: two products are at most 2 * 15 * 128, which 16 bits hold.
  LMRUN_INLINE Ints dot(Ints sum, const Nibbles& x, const int8_t* digits) {
    const __m256i four = four_bytes(digits);
    const __m256i ones = _mm256_set1_epi16(1);
    return {
        _mm256_add_epi32(sum.low, _mm256_madd_epi16(_mm256_maddubs_epi16(x.codes.low, four), ones)),
        _mm256_add_epi32(sum.high,
                         _mm256_madd_epi16(_mm256_maddubs_epi16(x.codes.high, four), ones))};
  }
  // Codes of 8 bits: widened to 16, whose products and sums of two are exact in 32.
  LMRUN_INLINE Ints dot(Ints sum, const Bytes& x, const int8_t* digits) {
    const __m256i four = four_bytes(digits);
    const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(four, 8), 8);
    const __m256i odd = _mm256_srai_epi16(four, 8);
    const Ints products = {
        _mm256_add_epi32(_mm256_madd_epi16(x.even.low, even), _mm256_madd_epi16(x.odd.low, odd)),
        _mm256_add_epi32(_mm256_madd_epi16(x.even.high, even), _mm256_madd_epi16(x.odd.high, odd))};
    return add(sum, products);
  }
};

}  // namespace

void attention(const AttentionArgs& args) { attention_of<Vectors>(args); }
void attention_join(const AttentionArgs& args) { attention_join_of<Vectors>(args); }

}  // namespace lmrun::kernels::avx2
