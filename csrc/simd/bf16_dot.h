// dot_pair(c, a, b): what vdpbf16ps computes, with the same bits at every level.
//
// A pair holds two bfloat16. c = fma(a[1], b[1], c), then c = fma(a[0], b[0], c): one rounding to
// nearest even each, inputs (c too) below the normal range are zero, results below it become zero
// with their sign. Checked against the instruction on Zen 4 in 80 million cases, also around
// overflow, underflow and cancellation (2026-11); no other order or rounding fits.
//
// Levels with fma but without the instruction run two fma with the flags of DotMode, in which
// x86-64 treats small numbers just so. The portable level works it out in float64.
#pragma once

#include "simd/simd.h"

namespace handmill::HM_ISA {

#if defined(HM_ISA_AVX512_BF16)

struct DotMode {};  // the instruction has no modes

struct PairA {
  __m512i words;
};
using PairB = PairA;

HM_INLINE PairA broadcast_pair(const uint16_t* p) {
  int32_t word;
  std::memcpy(&word, p, sizeof word);
  return {_mm512_set1_epi32(word)};
}
HM_INLINE PairB load_pairs(const uint16_t* p) { return {_mm512_loadu_si512(p)}; }
HM_INLINE Vec dot_pair(Vec c, PairA a, PairB b) {
  return {_mm512_dpbf16_ps(c.v, reinterpret_cast<__m512bh>(a.words),
                           reinterpret_cast<__m512bh>(b.words))};
}

#else

#if defined(HM_ISA_AVX512) || defined(HM_ISA_AVX2)

// Of this thread and until the scope ends: nearest even, small inputs and results are zero, no
// exception is trapped.
class DotMode {
 public:
  DotMode() : before_(_mm_getcsr()) { _mm_setcsr(0x9fc0); }
  ~DotMode() { _mm_setcsr(before_); }
  DotMode(const DotMode&) = delete;
  DotMode& operator=(const DotMode&) = delete;

 private:
  unsigned before_;
};

HM_INLINE Vec fma_flushed(Vec a, Vec b, Vec c) { return fma(a, b, c); }

#else

struct DotMode {};

// a * b is exact in float64. The sum is rounded to odd there: away from the even neighbour when
// inexact, after which rounding to float32 gives what one rounding would have given.
HM_INLINE float fma_flushed(float a, float b, float c) {
  constexpr float kNormal = __FLT_MIN__;
  if (__builtin_fabsf(a) < kNormal) a = __builtin_copysignf(0.0f, a);
  if (__builtin_fabsf(b) < kNormal) b = __builtin_copysignf(0.0f, b);
  if (__builtin_fabsf(c) < kNormal) c = __builtin_copysignf(0.0f, c);
  const double product = static_cast<double>(a) * static_cast<double>(b);
  const double addend = static_cast<double>(c);
  double sum = product + addend;
  const double part = sum - addend;
  const double error = (product - part) + (addend - (sum - part));
  if (__builtin_fabs(sum) < __builtin_inf() && error != 0.0) {
    uint64_t bits = __builtin_bit_cast(uint64_t, sum);
    if ((bits & 1) == 0) bits = (error > 0.0) == (sum > 0.0) ? bits + 1 : bits - 1;
    sum = __builtin_bit_cast(double, bits);
  }
  // Small means: below the normal range after rounding to 24 bits.
  constexpr double kSmall = 0x1p-126 - 0x1p-151;
  if (__builtin_fabs(sum) < kSmall) return __builtin_copysignf(0.0f, static_cast<float>(sum));
  return static_cast<float>(sum);
}

HM_INLINE Vec fma_flushed(Vec a, Vec b, Vec c) {
  Vec r;
  for (int i = 0; i < Vec::width; ++i) r.v[i] = fma_flushed(a.v[i], b.v[i], c.v[i]);
  return r;
}

#endif

struct PairA {
  Vec first, second;
};
using PairB = PairA;

HM_INLINE PairA split_pairs(VecI words) {
  return {as_float(shift_left<16>(words)), as_float(words & VecI::broadcast(-65536))};
}
HM_INLINE PairA broadcast_pair(const uint16_t* p) {
  int32_t word;
  std::memcpy(&word, p, sizeof word);
  return split_pairs(VecI::broadcast(word));
}
HM_INLINE PairB load_pairs(const uint16_t* p) {
  return split_pairs(VecI::load(reinterpret_cast<const int32_t*>(p)));
}
HM_INLINE Vec dot_pair(Vec c, PairA a, PairB b) {
  return fma_flushed(a.first, b.first, fma_flushed(a.second, b.second, c));
}

#endif

}  // namespace handmill::HM_ISA
