// Vec for x86-64-v4 (AVX-512 F, BW, DQ, VL): 16 floats. Contract of every operation: vec.h.
#pragma once

// GCC 12 warns about the deliberately undefined pass-through operands in its own header.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

namespace handmill::HM_ISA {

// One bit per lane.
struct Mask {
  __mmask16 m;
};

HM_INLINE Mask operator&(Mask a, Mask b) { return {_kand_mask16(a.m, b.m)}; }
HM_INLINE Mask operator|(Mask a, Mask b) { return {_kor_mask16(a.m, b.m)}; }
HM_INLINE Mask operator^(Mask a, Mask b) { return {_kxor_mask16(a.m, b.m)}; }
HM_INLINE Mask operator~(Mask a) { return {_knot_mask16(a.m)}; }
HM_INLINE bool any(Mask a) { return a.m != 0; }
HM_INLINE bool all(Mask a) { return a.m == 0xffff; }
HM_INLINE int64_t first_true(Mask a) { return __builtin_ctz(a.m); }
HM_INLINE Mask first_lanes(int64_t n) {
  return {static_cast<__mmask16>(_bzhi_u32(0xffffu, static_cast<unsigned>(n)))};
}

struct VecI {
  static constexpr int width = 16;
  __m512i v;

  HM_INLINE static VecI zero() { return {_mm512_setzero_si512()}; }
  HM_INLINE static VecI broadcast(int32_t x) { return {_mm512_set1_epi32(x)}; }
  HM_INLINE static VecI iota() {
    return {_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)};
  }
  HM_INLINE static VecI load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
  HM_INLINE static VecI load_n(const int32_t* p, int64_t n) {
    return {_mm512_maskz_loadu_epi32(first_lanes(n).m, p)};
  }
  HM_INLINE void store(int32_t* p) const { _mm512_storeu_si512(p, v); }
  HM_INLINE void store_n(int32_t* p, int64_t n) const {
    _mm512_mask_storeu_epi32(p, first_lanes(n).m, v);
  }
};

HM_INLINE VecI operator+(VecI a, VecI b) { return {_mm512_add_epi32(a.v, b.v)}; }
HM_INLINE VecI operator-(VecI a, VecI b) { return {_mm512_sub_epi32(a.v, b.v)}; }
HM_INLINE VecI operator*(VecI a, VecI b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
HM_INLINE VecI operator&(VecI a, VecI b) { return {_mm512_and_si512(a.v, b.v)}; }
HM_INLINE VecI operator|(VecI a, VecI b) { return {_mm512_or_si512(a.v, b.v)}; }
HM_INLINE VecI operator^(VecI a, VecI b) { return {_mm512_xor_si512(a.v, b.v)}; }
template <int kBits>
HM_INLINE VecI shift_left(VecI a) {
  return {_mm512_slli_epi32(a.v, kBits)};
}
template <int kBits>
HM_INLINE VecI shift_right_logical(VecI a) {
  return {_mm512_srli_epi32(a.v, kBits)};
}
template <int kBits>
HM_INLINE VecI shift_right_arithmetic(VecI a) {
  return {_mm512_srai_epi32(a.v, kBits)};
}
HM_INLINE VecI mul_high_unsigned(VecI a, VecI b) {
  const __m512i even = _mm512_mul_epu32(a.v, b.v);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a.v, 32), _mm512_srli_epi64(b.v, 32));
  return {_mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd)};
}
HM_INLINE Mask operator==(VecI a, VecI b) { return {_mm512_cmpeq_epi32_mask(a.v, b.v)}; }
HM_INLINE Mask operator<(VecI a, VecI b) { return {_mm512_cmplt_epi32_mask(a.v, b.v)}; }
HM_INLINE Mask operator>(VecI a, VecI b) { return {_mm512_cmpgt_epi32_mask(a.v, b.v)}; }
HM_INLINE VecI select(Mask m, VecI a, VecI b) { return {_mm512_mask_blend_epi32(m.m, b.v, a.v)}; }

struct Vec {
  static constexpr int width = 16;
  __m512 v;

  HM_INLINE static Vec zero() { return {_mm512_setzero_ps()}; }
  HM_INLINE static Vec broadcast(float x) { return {_mm512_set1_ps(x)}; }
  HM_INLINE static Vec iota() { return {_mm512_cvtepi32_ps(VecI::iota().v)}; }
  HM_INLINE static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  HM_INLINE static Vec load_n(const float* p, int64_t n) {
    return {_mm512_maskz_loadu_ps(first_lanes(n).m, p)};
  }
  HM_INLINE void store(float* p) const { _mm512_storeu_ps(p, v); }
  HM_INLINE void store_n(float* p, int64_t n) const {
    _mm512_mask_storeu_ps(p, first_lanes(n).m, v);
  }
};

HM_INLINE VecI as_int(Vec a) { return {_mm512_castps_si512(a.v)}; }
HM_INLINE Vec as_float(VecI a) { return {_mm512_castsi512_ps(a.v)}; }
HM_INLINE Vec to_float(VecI a) { return {_mm512_cvtepi32_ps(a.v)}; }
HM_INLINE VecI to_int(Vec a) { return {_mm512_cvtps_epi32(a.v)}; }

HM_INLINE Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
HM_INLINE Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
HM_INLINE Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
HM_INLINE Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
HM_INLINE Vec operator-(Vec a) { return {_mm512_xor_ps(a.v, _mm512_set1_ps(-0.0f))}; }
HM_INLINE Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
HM_INLINE Vec fma_low(Vec a, Vec b, Vec c) {
  return {_mm512_castps256_ps512(_mm256_fmadd_ps(
      _mm512_castps512_ps256(a.v), _mm512_castps512_ps256(b.v), _mm512_castps512_ps256(c.v)))};
}
HM_INLINE Vec fma_low(float a, Vec b, Vec c) {
  return {_mm512_castps256_ps512(_mm256_fmadd_ps(_mm256_set1_ps(a), _mm512_castps512_ps256(b.v),
                                                 _mm512_castps512_ps256(c.v)))};
}
HM_INLINE Vec fnma(Vec a, Vec b, Vec c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }

HM_INLINE Mask operator<(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
HM_INLINE Mask operator<=(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
HM_INLINE Mask operator>(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
HM_INLINE Mask operator>=(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ)}; }
HM_INLINE Mask operator==(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
HM_INLINE Mask operator!=(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_NEQ_UQ)}; }
HM_INLINE Mask is_nan(Vec a) { return {_mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q)}; }
HM_INLINE Vec select(Mask m, Vec a, Vec b) { return {_mm512_mask_blend_ps(m.m, b.v, a.v)}; }

// vmaxps and vminps return their second operand when either one is NaN.
HM_INLINE Vec at_least(Vec a, Vec bound) { return {_mm512_max_ps(bound.v, a.v)}; }
HM_INLINE Vec at_most(Vec a, Vec bound) { return {_mm512_min_ps(bound.v, a.v)}; }
HM_INLINE Vec max(Vec a, Vec b) { return select(is_nan(a), a, {_mm512_max_ps(a.v, b.v)}); }
HM_INLINE Vec min(Vec a, Vec b) { return select(is_nan(a), a, {_mm512_min_ps(a.v, b.v)}); }
HM_INLINE Vec abs(Vec a) { return {_mm512_abs_ps(a.v)}; }
HM_INLINE Vec copy_sign(Vec magnitude, Vec sign) {
  // Truth table 0xd8: the bits of `sign` where the selector is set, those of `magnitude` elsewhere.
  const __m512i selector = _mm512_set1_epi32(INT32_MIN);
  return as_float({_mm512_ternarylogic_epi32(as_int(magnitude).v, as_int(sign).v, selector, 0xd8)});
}
HM_INLINE Vec sqrt(Vec a) { return {_mm512_sqrt_ps(a.v)}; }
inline constexpr int kRsqrtBits = 14;
HM_INLINE Vec rsqrt_estimate(Vec a) { return {_mm512_rsqrt14_ps(a.v)}; }
HM_INLINE Vec round_nearest(Vec a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
HM_INLINE Vec floor(Vec a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)};
}
HM_INLINE Vec ceil(Vec a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC)};
}
HM_INLINE Vec scale_by_power_of_two(Vec a, Vec n) { return {_mm512_scalef_ps(a.v, n.v)}; }

template <class F>
HM_INLINE float reduce_halves(Vec a, F combine) {
  const __m256 low8 = _mm512_castps512_ps256(a.v);
  const __m256 high8 = _mm512_extractf32x8_ps(a.v, 1);
  const __m256 v8 = combine(low8, high8);
  const __m128 v4 =
      _mm256_castps256_ps128(combine(v8, _mm256_castps128_ps256(_mm256_extractf128_ps(v8, 1))));
  const __m128 v2 = _mm256_castps256_ps128(
      combine(_mm256_castps128_ps256(v4), _mm256_castps128_ps256(_mm_movehl_ps(v4, v4))));
  const __m128 v1 = _mm256_castps256_ps128(
      combine(_mm256_castps128_ps256(v2), _mm256_castps128_ps256(_mm_movehdup_ps(v2))));
  return _mm_cvtss_f32(v1);
}
HM_INLINE float reduce_add(Vec a) {
  return reduce_halves(a, [](__m256 x, __m256 y) { return _mm256_add_ps(x, y); });
}
HM_INLINE float reduce_max(Vec a) {
  return reduce_halves(a, [](__m256 x, __m256 y) {
    return _mm256_blendv_ps(_mm256_max_ps(x, y), x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  });
}
HM_INLINE float reduce_min(Vec a) {
  return reduce_halves(a, [](__m256 x, __m256 y) {
    return _mm256_blendv_ps(_mm256_min_ps(x, y), x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  });
}

HM_INLINE Vec load_u8(const uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return to_float({_mm512_cvtepu8_epi32(bytes)});
}
HM_INLINE Vec load_u8_n(const uint8_t* p, int64_t n) {
  return to_float({_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first_lanes(n).m, p))});
}
HM_INLINE Vec load_i32(const int32_t* p) { return to_float(VecI::load(p)); }
HM_INLINE Vec load_i32_n(const int32_t* p, int64_t n) { return to_float(VecI::load_n(p, n)); }

HM_INLINE Vec load_bf16(const uint16_t* p) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return as_float({_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16)});
}
HM_INLINE Vec load_bf16_n(const uint16_t* p, int64_t n) {
  const __m256i halves = _mm256_maskz_loadu_epi16(first_lanes(n).m, p);
  return as_float({_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16)});
}
// vcvtneps2bf16 would flush denormals to zero.
HM_INLINE __m256i round_to_bf16(Vec a) {
  const VecI bits = as_int(a);
  const VecI high = shift_right_logical<16>(bits);
  const VecI round = VecI::broadcast(0x7fff) + (high & VecI::broadcast(1));
  const VecI quiet_nan = high | VecI::broadcast(0x40);
  const VecI rounded = shift_right_logical<16>(bits + round);
  return _mm512_cvtepi32_epi16(select(is_nan(a), quiet_nan, rounded).v);
}
HM_INLINE void store_bf16(Vec a, uint16_t* p) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), round_to_bf16(a));
}
HM_INLINE void store_bf16_n(Vec a, uint16_t* p, int64_t n) {
  _mm256_mask_storeu_epi16(p, first_lanes(n).m, round_to_bf16(a));
}

}  // namespace handmill::HM_ISA
