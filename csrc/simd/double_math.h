// Functions computed lane by lane in float64 and rounded once: errors below 0.5001 ULP, and the
// same bits at every level and with every libm. They use nothing but + - * / and integers.
#pragma once

#include "simd/simd.h"

namespace handmill::HM_ISA {

// x + kRoundingShift has the integer nearest to x in its low bits, for |x| < 2^51.
inline constexpr double kRoundingShift = 6755399441055744.0;  // 1.5 * 2^52

// log2(x) for x > 0, relative error below 2^-49.
HM_INLINE double log2_positive(double x) {
  // x = 2^k z with z in [1/sqrt 2, sqrt 2).
  constexpr int64_t kSqrtHalf = 0x3fe6a09e667f3bcd;
  const int64_t bits = __builtin_bit_cast(int64_t, x);
  const int64_t k = (bits - kSqrtHalf) >> 52;
  const double z = __builtin_bit_cast(double, bits - (k << 52));
  // log z = 2 artanh(s) = 2 (s + s^3 / 3 + s^5 / 5 + ...) with |s| < 0.172.
  const double s = (z - 1.0) / (z + 1.0), q = s * s;
  double sum = 1.0 / 19;
  sum = sum * q + 1.0 / 17;
  sum = sum * q + 1.0 / 15;
  sum = sum * q + 1.0 / 13;
  sum = sum * q + 1.0 / 11;
  sum = sum * q + 1.0 / 9;
  sum = sum * q + 1.0 / 7;
  sum = sum * q + 1.0 / 5;
  sum = sum * q + 1.0 / 3;
  const double artanh = s + s * q * sum;
  constexpr double kTwoOverLn2 = 2.8853900817779268147;
  return static_cast<double>(k) + artanh * kTwoOverLn2;
}

// 2^t for |t| < 1000, relative error below 2^-49.
HM_INLINE double exp2_bounded(double t) {
  const double shifted = t + kRoundingShift;
  const double r = (t - (shifted - kRoundingShift)) * 0.69314718055994530942;  // |r| <= ln 2 / 2
  double sum = 1.0 / 479001600;
  sum = sum * r + 1.0 / 39916800;
  sum = sum * r + 1.0 / 3628800;
  sum = sum * r + 1.0 / 362880;
  sum = sum * r + 1.0 / 40320;
  sum = sum * r + 1.0 / 5040;
  sum = sum * r + 1.0 / 720;
  sum = sum * r + 1.0 / 120;
  sum = sum * r + 1.0 / 24;
  sum = sum * r + 1.0 / 6;
  sum = sum * r + 1.0 / 2;
  sum = sum * r + 1.0;
  sum = sum * r + 1.0;
  const uint64_t n_bits = __builtin_bit_cast(uint64_t, shifted);
  return sum * __builtin_bit_cast(double, (n_bits + 1023) << 52);
}

// x^y with the special cases of C's pow.
HM_INLINE float pow_lane(float x, float y) {
  const double infinity = __builtin_inf();
  const double a = __builtin_fabs(static_cast<double>(x)), b = static_cast<double>(y);
  const double logarithm = a == 0 ? -infinity : (a < infinity ? log2_positive(a) : a);
  // Outside of these bounds the result rounds to 0 or overflows; NaN becomes one of them, too.
  const double t = b * logarithm;
  const double bounded = t >= -160.0 ? (t <= 140.0 ? t : 140.0) : -160.0;
  double result = exp2_bounded(bounded);
  if (t != t) result = t;
  if (y == 0 || a == 1) result = 1;  // 1^y and (+-1)^(+-inf) and NaN^0
  if (a == 1 && y != y && x != 1) result = t;
  if (__builtin_signbit(x) && x == x) {
    const double size = __builtin_fabs(b);
    const double whole = (size + 4503599627370496.0) - 4503599627370496.0;  // 2^52
    const double half = size * 0.5;
    const bool is_odd = size < 16777216.0 && whole == size &&
                        (half + 4503599627370496.0) - 4503599627370496.0 != half;
    if (is_odd) result = -result;
    if (whole != size && size < 16777216.0 && a != 0 && a < infinity) result = __builtin_nan("");
  }
  return static_cast<float>(result);
}

// sin(x + quarters pi / 2) of a large x: of 32 <= |x|, infinity and NaN.
HM_INLINE float sin_lane(float x, uint32_t quarters) {
  // The bits of 2 / pi behind 32 zeros.
  constexpr uint32_t kTwoOverPi[8] = {0x00000000, 0xa2f9836e, 0x4e441529, 0xfc2757d1,
                                      0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab};
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  const uint32_t exponent = (bits >> 23) & 255;
  if (exponent == 255) return __builtin_nanf("");
  // |x| = m 2^e. Of x 2 / pi, the number of quarter turns, only what is below 4 counts: 96 bits of
  // 2 / pi starting with the one of weight 2^(1 - e), times m. Lost is less than 2^-70.
  const uint64_t m = (bits & 0x7fffff) | 0x800000;
  const uint32_t start = exponent - 150 + 30;
  const uint32_t word = start / 32, shift = start % 32;
  uint64_t window[3];
  for (uint32_t i = 0; i < 3; ++i) {
    const uint64_t two_words = uint64_t{kTwoOverPi[word + i]} << 32 | kTwoOverPi[word + i + 1];
    window[i] = (two_words << shift) >> 32;
  }
  const uint64_t turns = ((m * window[0]) << 32) + m * window[1] + ((m * window[2]) >> 32);
  const uint64_t n = (turns + (uint64_t{1} << 61)) >> 62;
  const auto remainder = static_cast<int64_t>(turns - (n << 62));
  constexpr double kUnit = 1.57079632679489661923 / 4611686018427387904.0;  // pi / 2 / 2^62
  const bool is_negative = bits >> 31;
  const double magnitude = static_cast<double>(remainder) * kUnit;
  const double r = is_negative ? -magnitude : magnitude;  // |r| <= pi / 4
  const uint64_t quadrant = (is_negative ? uint64_t{0} - n : n) + quarters;
  const double s = r * r;
  double sine = 1.0 / 6227020800;
  sine = sine * s - 1.0 / 39916800;
  sine = sine * s + 1.0 / 362880;
  sine = sine * s - 1.0 / 5040;
  sine = sine * s + 1.0 / 120;
  sine = sine * s - 1.0 / 6;
  sine = r + r * s * sine;
  double cosine = -1.0 / 87178291200;
  cosine = cosine * s + 1.0 / 479001600;
  cosine = cosine * s - 1.0 / 3628800;
  cosine = cosine * s + 1.0 / 40320;
  cosine = cosine * s - 1.0 / 720;
  cosine = cosine * s + 1.0 / 24;
  cosine = cosine * s - 1.0 / 2;
  cosine = cosine * s + 1.0;
  const double y = quadrant & 1 ? cosine : sine;
  return static_cast<float>(quadrant & 2 ? -y : y);
}

}  // namespace handmill::HM_ISA
