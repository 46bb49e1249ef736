// Vec for x86-64-v3 (AVX2, FMA, BMI2): 8 floats. Contract of every operation: vec.h.
#pragma once

#include <immintrin.h>

namespace handmill::HM_ISA {

// All bits of a lane set, or none.
struct Mask {
  __m256 m;
};

HM_INLINE Mask operator&(Mask a, Mask b) { return {_mm256_and_ps(a.m, b.m)}; }
HM_INLINE Mask operator|(Mask a, Mask b) { return {_mm256_or_ps(a.m, b.m)}; }
HM_INLINE Mask operator^(Mask a, Mask b) { return {_mm256_xor_ps(a.m, b.m)}; }
HM_INLINE Mask operator~(Mask a) {
  return {_mm256_xor_ps(a.m, _mm256_castsi256_ps(_mm256_set1_epi32(-1)))};
}
HM_INLINE bool any(Mask a) { return _mm256_movemask_ps(a.m) != 0; }
HM_INLINE bool all(Mask a) { return _mm256_movemask_ps(a.m) == 0xff; }
HM_INLINE int64_t first_true(Mask a) {
  return __builtin_ctz(static_cast<unsigned>(_mm256_movemask_ps(a.m)));
}
HM_INLINE Mask first_lanes(int64_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i count = _mm256_set1_epi32(static_cast<int32_t>(n));
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(count, lane))};
}

struct VecI {
  static constexpr int width = 8;
  __m256i v;

  HM_INLINE static VecI zero() { return {_mm256_setzero_si256()}; }
  HM_INLINE static VecI broadcast(int32_t x) { return {_mm256_set1_epi32(x)}; }
  HM_INLINE static VecI iota() { return {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)}; }
  HM_INLINE static VecI load(const int32_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
  }
  HM_INLINE static VecI load_n(const int32_t* p, int64_t n) {
    return {_mm256_maskload_epi32(p, _mm256_castps_si256(first_lanes(n).m))};
  }
  HM_INLINE void store(int32_t* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  HM_INLINE void store_n(int32_t* p, int64_t n) const {
    _mm256_maskstore_epi32(p, _mm256_castps_si256(first_lanes(n).m), v);
  }
};

HM_INLINE VecI operator+(VecI a, VecI b) { return {_mm256_add_epi32(a.v, b.v)}; }
HM_INLINE VecI operator-(VecI a, VecI b) { return {_mm256_sub_epi32(a.v, b.v)}; }
HM_INLINE VecI operator*(VecI a, VecI b) { return {_mm256_mullo_epi32(a.v, b.v)}; }
HM_INLINE VecI operator&(VecI a, VecI b) { return {_mm256_and_si256(a.v, b.v)}; }
HM_INLINE VecI operator|(VecI a, VecI b) { return {_mm256_or_si256(a.v, b.v)}; }
HM_INLINE VecI operator^(VecI a, VecI b) { return {_mm256_xor_si256(a.v, b.v)}; }
template <int kBits>
HM_INLINE VecI shift_left(VecI a) {
  return {_mm256_slli_epi32(a.v, kBits)};
}
template <int kBits>
HM_INLINE VecI shift_right_logical(VecI a) {
  return {_mm256_srli_epi32(a.v, kBits)};
}
template <int kBits>
HM_INLINE VecI shift_right_arithmetic(VecI a) {
  return {_mm256_srai_epi32(a.v, kBits)};
}
HM_INLINE VecI mul_high_unsigned(VecI a, VecI b) {
  const __m256i even = _mm256_mul_epu32(a.v, b.v);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(a.v, 32), _mm256_srli_epi64(b.v, 32));
  return {_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa)};
}
HM_INLINE Mask operator==(VecI a, VecI b) {
  return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(a.v, b.v))};
}
HM_INLINE Mask operator>(VecI a, VecI b) {
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(a.v, b.v))};
}
HM_INLINE Mask operator<(VecI a, VecI b) { return b > a; }
HM_INLINE VecI select(Mask m, VecI a, VecI b) {
  return {_mm256_blendv_epi8(b.v, a.v, _mm256_castps_si256(m.m))};
}

struct Vec {
  static constexpr int width = 8;
  __m256 v;

  HM_INLINE static Vec zero() { return {_mm256_setzero_ps()}; }
  HM_INLINE static Vec broadcast(float x) { return {_mm256_set1_ps(x)}; }
  HM_INLINE static Vec iota() { return {_mm256_cvtepi32_ps(VecI::iota().v)}; }
  HM_INLINE static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  HM_INLINE static Vec load_n(const float* p, int64_t n) {
    return {_mm256_maskload_ps(p, _mm256_castps_si256(first_lanes(n).m))};
  }
  HM_INLINE void store(float* p) const { _mm256_storeu_ps(p, v); }
  // By halves: a masked store costs 12 cycles and more on Zen.
  HM_INLINE void store_n(float* p, int64_t n) const {
    __m128 half = _mm256_castps256_ps128(v);
    if (n >= 8) {
      _mm256_storeu_ps(p, v);
      return;
    }
    if (n & 4) {
      _mm_storeu_ps(p, half);
      half = _mm256_extractf128_ps(v, 1);
      p += 4;
    }
    if (n & 2) {
      _mm_storel_pi(reinterpret_cast<__m64*>(p), half);
      half = _mm_movehl_ps(half, half);
      p += 2;
    }
    if (n & 1) _mm_store_ss(p, half);
  }
};

HM_INLINE VecI as_int(Vec a) { return {_mm256_castps_si256(a.v)}; }
HM_INLINE Vec as_float(VecI a) { return {_mm256_castsi256_ps(a.v)}; }
HM_INLINE Vec to_float(VecI a) { return {_mm256_cvtepi32_ps(a.v)}; }
HM_INLINE VecI to_int(Vec a) { return {_mm256_cvtps_epi32(a.v)}; }

HM_INLINE Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
HM_INLINE Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
HM_INLINE Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
HM_INLINE Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
HM_INLINE Vec operator-(Vec a) { return {_mm256_xor_ps(a.v, _mm256_set1_ps(-0.0f))}; }
HM_INLINE Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
HM_INLINE Vec fma_low(Vec a, Vec b, Vec c) { return fma(a, b, c); }
HM_INLINE Vec fma_low(float a, Vec b, Vec c) { return fma(Vec::broadcast(a), b, c); }
HM_INLINE Vec fnma(Vec a, Vec b, Vec c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }

HM_INLINE Mask operator<(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
HM_INLINE Mask operator<=(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ)}; }
HM_INLINE Mask operator>(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ)}; }
HM_INLINE Mask operator>=(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ)}; }
HM_INLINE Mask operator==(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
HM_INLINE Mask operator!=(Vec a, Vec b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_NEQ_UQ)}; }
HM_INLINE Mask is_nan(Vec a) { return {_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q)}; }
HM_INLINE Vec select(Mask m, Vec a, Vec b) { return {_mm256_blendv_ps(b.v, a.v, m.m)}; }

// vmaxps and vminps return their second operand when either one is NaN.
HM_INLINE Vec at_least(Vec a, Vec bound) { return {_mm256_max_ps(bound.v, a.v)}; }
HM_INLINE Vec at_most(Vec a, Vec bound) { return {_mm256_min_ps(bound.v, a.v)}; }
HM_INLINE Vec max(Vec a, Vec b) { return select(is_nan(a), a, {_mm256_max_ps(a.v, b.v)}); }
HM_INLINE Vec min(Vec a, Vec b) { return select(is_nan(a), a, {_mm256_min_ps(a.v, b.v)}); }
HM_INLINE Vec abs(Vec a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
HM_INLINE Vec copy_sign(Vec magnitude, Vec sign) {
  return {_mm256_or_ps(abs(magnitude).v, _mm256_and_ps(_mm256_set1_ps(-0.0f), sign.v))};
}
HM_INLINE Vec sqrt(Vec a) { return {_mm256_sqrt_ps(a.v)}; }
// vrsqrtps gives 11 bits: one more step of sqrt_by_products, which then gains nothing.
inline constexpr int kRsqrtBits = 0;
HM_INLINE Vec rsqrt_estimate(Vec a) { return a; }
HM_INLINE Vec round_nearest(Vec a) {
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
HM_INLINE Vec floor(Vec a) {
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)};
}
HM_INLINE Vec ceil(Vec a) {
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC)};
}
// Two factors: one alone would leave the exponent range before the product does.
HM_INLINE Vec scale_by_power_of_two(Vec a, Vec n) {
  const VecI exponent = to_int(n);
  const VecI half = shift_right_arithmetic<1>(exponent);
  const VecI bias = VecI::broadcast(127);
  const Vec first = as_float(shift_left<23>(half + bias));
  const Vec second = as_float(shift_left<23>(exponent - half + bias));
  return a * first * second;
}

template <class F>
HM_INLINE float reduce_halves(Vec a, F combine) {
  const __m128 low = _mm256_castps256_ps128(a.v);
  const __m128 v4 = combine(low, _mm256_extractf128_ps(a.v, 1));
  const __m128 v2 = combine(v4, _mm_movehl_ps(v4, v4));
  return _mm_cvtss_f32(combine(v2, _mm_movehdup_ps(v2)));
}
HM_INLINE float reduce_add(Vec a) {
  return reduce_halves(a, [](__m128 x, __m128 y) { return _mm_add_ps(x, y); });
}
HM_INLINE float reduce_max(Vec a) {
  return reduce_halves(a, [](__m128 x, __m128 y) {
    return _mm_blendv_ps(_mm_max_ps(x, y), x, _mm_cmpunord_ps(x, x));
  });
}
HM_INLINE float reduce_min(Vec a) {
  return reduce_halves(a, [](__m128 x, __m128 y) {
    return _mm_blendv_ps(_mm_min_ps(x, y), x, _mm_cmpunord_ps(x, x));
  });
}

HM_INLINE Vec load_u8(const uint8_t* p) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return to_float({_mm256_cvtepu8_epi32(bytes)});
}
HM_INLINE Vec load_u8_n(const uint8_t* p, int64_t n) {
  uint8_t bytes[Vec::width] = {};
  std::memcpy(bytes, p, static_cast<size_t>(n));
  return load_u8(bytes);
}
HM_INLINE Vec load_i32(const int32_t* p) { return to_float(VecI::load(p)); }
HM_INLINE Vec load_i32_n(const int32_t* p, int64_t n) { return to_float(VecI::load_n(p, n)); }

HM_INLINE Vec load_bf16(const uint16_t* p) {
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return as_float({_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16)});
}
HM_INLINE Vec load_bf16_n(const uint16_t* p, int64_t n) {
  uint16_t halves[Vec::width] = {};
  std::memcpy(halves, p, static_cast<size_t>(n) * sizeof(uint16_t));
  return load_bf16(halves);
}
HM_INLINE void store_bf16(Vec a, uint16_t* p) {
  const VecI bits = as_int(a);
  const VecI high = shift_right_logical<16>(bits);
  const VecI round = VecI::broadcast(0x7fff) + (high & VecI::broadcast(1));
  const VecI quiet_nan = high | VecI::broadcast(0x40);
  const VecI rounded = select(is_nan(a), quiet_nan, shift_right_logical<16>(bits + round));
  const __m128i low4 = _mm256_castsi256_si128(rounded.v);
  const __m128i high4 = _mm256_extracti128_si256(rounded.v, 1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packus_epi32(low4, high4));
}
HM_INLINE void store_bf16_n(Vec a, uint16_t* p, int64_t n) {
  uint16_t halves[Vec::width];
  store_bf16(a, halves);
  std::memcpy(p, halves, static_cast<size_t>(n) * sizeof(uint16_t));
}

}  // namespace handmill::HM_ISA
