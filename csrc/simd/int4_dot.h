// Sums of products of four groups of four bytes by 4-bit numbers, in lanes of int32.
//
// The left operands are groups of four uint8 that all lanes share, the right ones four numbers of
// 0 to 15 a lane. Eight products are at most 8 * 255 * 15 = 30600: where there are products of
// bytes that saturate at int16 (vpmaddubsw), they never do. All levels give the same integers.
#pragma once

#include "simd/simd.h"

namespace handmill::HM_ISA {

inline constexpr int kGroupsAtOnce = 4;

// One number a byte, of two groups.
struct NibbleGroups {
  VecI first, second;
};

HM_INLINE NibbleGroups load_nibbles(const uint8_t* p) {
  const VecI both = VecI::load(reinterpret_cast<const int32_t*>(p));
  const VecI low = VecI::broadcast(0x0f0f0f0f);
  return {both & low, shift_right_logical<4>(both) & low};
}

#if defined(HM_ISA_AVX512) || defined(HM_ISA_AVX2)

// Of half the products of a group, int16.
struct ShortSums {
#if defined(HM_ISA_AVX512)
  __m512i v;
#else
  __m256i v;
#endif
};

HM_INLINE ShortSums byte_products(VecI x, VecI w) {
#if defined(HM_ISA_AVX512)
  return {_mm512_maddubs_epi16(x.v, w.v)};
#else
  return {_mm256_maddubs_epi16(x.v, w.v)};
#endif
}
HM_INLINE ShortSums operator+(ShortSums a, ShortSums b) {
#if defined(HM_ISA_AVX512)
  return {_mm512_add_epi16(a.v, b.v)};
#else
  return {_mm256_add_epi16(a.v, b.v)};
#endif
}
HM_INLINE VecI widened_sums(ShortSums a) {
#if defined(HM_ISA_AVX512)
  return {_mm512_madd_epi16(a.v, _mm512_set1_epi16(1))};
#else
  return {_mm256_madd_epi16(a.v, _mm256_set1_epi16(1))};
#endif
}

#else

using ShortSums = VecI;  // as wide as their sums here

HM_INLINE ShortSums byte_products(VecI x, VecI w) {
  const VecI byte = VecI::broadcast(255);
  VecI sum = (x & byte) * (w & byte);
  sum = sum + (shift_right_logical<8>(x) & byte) * (shift_right_logical<8>(w) & byte);
  sum = sum + (shift_right_logical<16>(x) & byte) * (shift_right_logical<16>(w) & byte);
  return sum + shift_right_logical<24>(x) * shift_right_logical<24>(w);
}
HM_INLINE VecI widened_sums(ShortSums a) { return a; }

#endif

}  // namespace handmill::HM_ISA
