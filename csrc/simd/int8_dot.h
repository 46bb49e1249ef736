// Sums of products of four bytes by four bytes, in lanes of int32 that wrap around.
//
// The left operand is a group of four uint8 that all lanes share, the right one four int8 a lane.
// With VNNI that is one instruction. Elsewhere bytes are widened to int16, where a sum of two
// products fits into int32: the left groups are stored widened (kGroupWords words each), the right
// ones are split when they are loaded. All give the same integers.
#pragma once

#include "simd/simd.h"

namespace handmill::HM_ISA {

#if defined(HM_ISA_AVX512_VNNI) || defined(HM_ISA_AVX2_VNNI)

inline constexpr int kGroupWords = 1;
inline constexpr int kWideWords = 1;  // that Groups take once widened

struct Group {
  VecI words;
};
struct Groups {
  VecI words;
};

HM_INLINE Group broadcast_group(const int32_t* p) { return {VecI::broadcast(*p)}; }
HM_INLINE Groups load_groups(const int8_t* p) {
  return {VecI::load(reinterpret_cast<const int32_t*>(p))};
}
// Of bytes 0 and 2, and bytes 1 and 3, each in half a lane.
HM_INLINE Group group_of(VecI even, VecI odd) { return {even | shift_left<8>(odd)}; }
HM_INLINE Groups load_wide(const int32_t* p) { return {VecI::load(p)}; }
HM_INLINE void store_wide(Groups a, int32_t* p) { a.words.store(p); }
HM_INLINE VecI add_products(VecI sum, Group a, Groups b) {
#if defined(HM_ISA_AVX512_VNNI)
  return {_mm512_dpbusd_epi32(sum.v, a.words.v, b.words.v)};
#else
  return {_mm256_dpbusd_avx_epi32(sum.v, a.words.v, b.words.v)};
#endif
}

#else

inline constexpr int kGroupWords = 2;
inline constexpr int kWideWords = 2;  // that Groups take once widened

// Pairs of int16 in each lane.
#if defined(HM_ISA_AVX512)
HM_INLINE VecI madd(VecI a, VecI b) { return {_mm512_madd_epi16(a.v, b.v)}; }
HM_INLINE VecI low_bytes(VecI a) { return {_mm512_srai_epi16(_mm512_slli_epi16(a.v, 8), 8)}; }
HM_INLINE VecI high_bytes(VecI a) { return {_mm512_srai_epi16(a.v, 8)}; }
#elif defined(HM_ISA_AVX2)
HM_INLINE VecI madd(VecI a, VecI b) { return {_mm256_madd_epi16(a.v, b.v)}; }
HM_INLINE VecI low_bytes(VecI a) { return {_mm256_srai_epi16(_mm256_slli_epi16(a.v, 8), 8)}; }
HM_INLINE VecI high_bytes(VecI a) { return {_mm256_srai_epi16(a.v, 8)}; }
#else
typedef int16_t ShortLanes __attribute__((vector_size(16)));
HM_INLINE VecI low_bytes(VecI a) {
  const ShortLanes x = reinterpret_cast<ShortLanes>(a.v);
  return {reinterpret_cast<IntLanes>((x << 8) >> 8)};
}
HM_INLINE VecI high_bytes(VecI a) {
  return {reinterpret_cast<IntLanes>(reinterpret_cast<ShortLanes>(a.v) >> 8)};
}
#if defined(__SSE2__)
typedef short MaddLanes __attribute__((vector_size(16)));
HM_INLINE VecI madd(VecI a, VecI b) {
  return {reinterpret_cast<IntLanes>(__builtin_ia32_pmaddwd128(reinterpret_cast<MaddLanes>(a.v),
                                                               reinterpret_cast<MaddLanes>(b.v)))};
}
#else
HM_INLINE VecI madd(VecI a, VecI b) {
  const VecI low =
      shift_right_arithmetic<16>(shift_left<16>(a)) * shift_right_arithmetic<16>(shift_left<16>(b));
  return low + shift_right_arithmetic<16>(a) * shift_right_arithmetic<16>(b);
}
#endif
#endif

// Bytes 0 and 2, and bytes 1 and 3.
struct Group {
  VecI even, odd;
};
using Groups = Group;

HM_INLINE Group broadcast_group(const int32_t* p) {
  return {VecI::broadcast(p[0]), VecI::broadcast(p[1])};
}
HM_INLINE Groups load_groups(const int8_t* p) {
  const VecI both = VecI::load(reinterpret_cast<const int32_t*>(p));
  return {low_bytes(both), high_bytes(both)};
}
HM_INLINE Group group_of(VecI even, VecI odd) { return {even, odd}; }
HM_INLINE Groups load_wide(const int32_t* p) {
  return {VecI::load(p), VecI::load(p + VecI::width)};
}
HM_INLINE void store_wide(Groups a, int32_t* p) {
  a.even.store(p);
  a.odd.store(p + VecI::width);
}
HM_INLINE VecI add_products(VecI sum, Group a, Groups b) {
  return sum + (madd(a.even, b.even) + madd(a.odd, b.odd));
}

#endif

// One byte a lane.
HM_INLINE VecI load_bytes(const uint8_t* p) {
#if defined(HM_ISA_AVX512)
  return {_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
#elif defined(HM_ISA_AVX2)
  return {_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))};
#else
  const int32_t words[VecI::width] = {p[0], p[1], p[2], p[3]};
  return VecI::load(words);
#endif
}

// In each lane bytes of its own: those of row[0], ..., row[kBytes - 1]. Those that are missing up
// to four are unspecified, or 0; they meet weights of 0.
template <int kBytes>
HM_INLINE Group lane_group(const uint8_t* const (&row)[4]) {
  static_assert(1 <= kBytes && kBytes <= 4);
  const auto both = [&](int first, int second, bool has_second) __attribute__((always_inline)) {
#if defined(HM_ISA_AVX2)
    if (has_second) {
      const auto load = [](const uint8_t* p) {
        return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
      };
      return VecI{_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(load(row[first]), load(row[second])))};
    }
#endif
    const VecI low = load_bytes(row[first]);
    return has_second ? low | shift_left<16>(load_bytes(row[second])) : low;
  };
  const VecI even = both(0, 2, kBytes > 2);
  const VecI odd = kBytes > 1 ? both(1, 3, kBytes > 3) : VecI::zero();
  return group_of(even, odd);
}

// The lanes, 0 to 255 each, as bytes.
HM_INLINE void store_bytes(VecI a, uint8_t* p, int64_t n) {
#if defined(HM_ISA_AVX512)
  _mm512_mask_cvtepi32_storeu_epi8(p, first_lanes(n).m, a.v);
#elif defined(HM_ISA_AVX2)
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128(a.v), _mm256_extracti128_si256(a.v, 1));
  uint8_t bytes[16];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes), _mm_packus_epi16(words, words));
  if (n == VecI::width) {
    std::memcpy(p, bytes, VecI::width);
  } else {
    for (int64_t i = 0; i < n; ++i) p[i] = bytes[i];
  }
#else
  int32_t words[VecI::width];
  uint8_t bytes[VecI::width];
  a.store(words);
  for (int i = 0; i < VecI::width; ++i) bytes[i] = static_cast<uint8_t>(words[i]);
  if (n == VecI::width) {
    std::memcpy(p, bytes, sizeof bytes);
  } else {
    for (int64_t i = 0; i < n; ++i) p[i] = bytes[i];
  }
#endif
}

// Numbers as bytes: round(clip(v * factor, -z, 255 - z)) + z.
struct ByteFormat {
  Vec factor, lowest, highest;
  VecI zero;

  HM_INLINE explicit ByteFormat(const float* format)
      : factor(Vec::broadcast(format[0])),
        lowest(Vec::broadcast(-format[1])),
        highest(Vec::broadcast(255.0f - format[1])),
        zero(VecI::broadcast(static_cast<int32_t>(format[1]))) {}

  HM_INLINE VecI of(Vec v) const {
    v = select(is_nan(v), Vec::zero(), v) * factor;
    return to_int(at_most(at_least(v, lowest), highest)) + zero;
  }
};

}  // namespace handmill::HM_ISA
