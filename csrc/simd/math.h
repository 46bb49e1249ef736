// Elementary functions on Vec, for all float32 inputs: NaN propagates, infinities and denormals are
// handled. Every level runs the same formulas; without a fused multiply-add they stay within the
// bounds below.
//
// Largest error of any level against float64 libm, in ULP (denormal spacing below FLT_MIN), over
// all 2^32 inputs; sin and cos: every 31st, exp2: every 257th. AVX2 and AVX-512: the same bits.
//   exp 1.05, exp2 1.05, expm1 1.71, log 0.92, log1p 1.67, tanh 1.50, sigmoid 1.98, erf 1.18,
//   rsqrt 1.50, sin 1.47, cos 1.48
// pow, and sin and cos of huge arguments, are computed in float64: see double_math.h.
//
// Polynomials: minimax (Remez) fits with coefficients rounded to float32 one after the other, the
// remaining ones refitted each time.
#pragma once

#include "simd/double_math.h"
#include "simd/simd.h"

namespace handmill::HM_ISA {

// c0 + c1 x + c2 x^2 + ...
HM_INLINE Vec polynomial(Vec, float c0) { return Vec::broadcast(c0); }
template <class... Floats>
HM_INLINE Vec polynomial(Vec x, float c0, Floats... rest) {
  return fma(x, polynomial(x, rest...), Vec::broadcast(c0));
}

// x = n ln 2 + r with integer n and |r| <= ln 2 / 2, for |x| < 2^15.
struct ExpReduction {
  Vec n, r;
  VecI n_bits;  // n in the low bits
};

HM_INLINE ExpReduction reduce_exp(Vec x) {
  // Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
  const Vec magic = Vec::broadcast(12582912.0f);
  const Vec shifted = fma(x, Vec::broadcast(1.44269504f), magic);
  const Vec n = shifted - magic;
  // The upper part of ln 2 has 9 significant bits: n times it is exact.
  const Vec r = fnma(n, Vec::broadcast(-2.12194440e-4f), fnma(n, Vec::broadcast(0.693359375f), x));
  return {n, r, as_int(shifted)};
}

// exp(r) - 1 for |r| <= ln 2 / 2.
HM_INLINE Vec expm1_reduced(Vec r) {
  const Vec p = polynomial(r, 0.5f, 1.6666539e-01f, 4.1666612e-02f, 8.3671035e-03f, 1.3917662e-03f);
  return fma(r * r, p, r);
}

// exp(x) where it is a normal number: |x| < 87.
HM_INLINE Vec exp_normal(Vec x) {
  const ExpReduction e = reduce_exp(x);
  const VecI one = as_int(Vec::broadcast(1.0f));
  return (Vec::broadcast(1.0f) + expm1_reduced(e.r)) * as_float(shift_left<23>(e.n_bits) + one);
}

HM_INLINE Vec exp(Vec x) {
  // Beyond these bounds the result rounds to 0 or overflows.
  const Vec bounded = at_most(at_least(x, Vec::broadcast(-104.0f)), Vec::broadcast(89.0f));
  const ExpReduction e = reduce_exp(bounded);
  return scale_by_power_of_two(Vec::broadcast(1.0f) + expm1_reduced(e.r), e.n);
}

// 2^x = 2^n e^(f ln 2) with x = n + f: the split is exact, so only the product rounds.
HM_INLINE Vec exp2(Vec x) {
  // Beyond these bounds the result rounds to 0 or overflows.
  const Vec bounded = at_most(at_least(x, Vec::broadcast(-150.0f)), Vec::broadcast(128.0f));
  const Vec n = round_nearest(bounded);
  const Vec r = (bounded - n) * Vec::broadcast(0.693147181f);
  return scale_by_power_of_two(Vec::broadcast(1.0f) + expm1_reduced(r), n);
}

HM_INLINE Vec expm1(Vec x) {
  const Vec bounded = at_most(at_least(x, Vec::broadcast(-18.0f)), Vec::broadcast(89.0f));
  const ExpReduction e = reduce_exp(bounded);
  // 2 (2^(n-1) p + (2^(n-1) - 1/2)): the factor 2 is kept apart because n may be 128.
  const Vec half = Vec::broadcast(0.5f);
  const Vec scale = as_float(shift_left<23>(e.n_bits) + as_int(half));
  const Vec y = fma(scale, expm1_reduced(e.r), scale - half);
  return select(abs(x) < Vec::broadcast(1e-8f), x, y + y);
}

// x = 2^k (1 + f) with f in [-1/3, 1/3], for positive normal x.
struct LogReduction {
  Vec k, f;
};

HM_INLINE LogReduction reduce_log(Vec x) {
  const VecI two_thirds = VecI::broadcast(0x3f2aaaab);
  const VecI bits = as_int(x);
  const VecI k = shift_right_arithmetic<23>(bits - two_thirds);
  const Vec mantissa = as_float(bits - shift_left<23>(k));
  return {to_float(k), mantissa - Vec::broadcast(1.0f)};
}

// k ln 2 + log(1 + f).
HM_INLINE Vec log_reduced(LogReduction l) {
  const Vec q =
      polynomial(l.f, -0.5f, 3.3333215e-01f, -2.4999778e-01f, 2.0010495e-01f, -1.668152e-01f,
                 1.4003938e-01f, -1.2167793e-01f, 1.400037e-01f, -1.2958953e-01f);
  const Vec low = fma(l.f * l.f, q, l.k * Vec::broadcast(-2.12194440e-4f));
  return fma(l.k, Vec::broadcast(0.693359375f), l.f + low);
}

// log of a number: y where x > 0 is finite, else the special values (x = 0: -inf, x < 0: NaN).
HM_INLINE Vec log_special(Vec x, Vec y) {
  const Vec infinity = Vec::broadcast(__builtin_inff());
  const Vec not_positive = select(x == Vec::zero(), -infinity, Vec::broadcast(__builtin_nanf("")));
  return select(x <= Vec::zero(), not_positive, select(x < infinity, y, x));
}

HM_INLINE Vec log(Vec x) {
  const Mask is_denormal = x < Vec::broadcast(1.17549435e-38f);
  const Vec normal = select(is_denormal, x * Vec::broadcast(8388608.0f), x);
  LogReduction l = reduce_log(normal);
  l.k = l.k - select(is_denormal, Vec::broadcast(23.0f), Vec::zero());
  return log_special(x, log_reduced(l));
}

HM_INLINE Vec log1p(Vec x) {
  // u + error = 1 + x exactly; the error joins f at its scale 2^-k.
  const Vec one = Vec::broadcast(1.0f);
  const Vec u = one + x;
  const Vec large = select(x > one, x, one), small = select(x > one, one, x);
  const Vec error = small - (u - large);
  LogReduction l = reduce_log(u);
  const Vec scale = as_float(as_int(one) - shift_left<23>(to_int(l.k)));
  l.f = fma(error, select(u < Vec::broadcast(1e30f), scale, Vec::zero()), l.f);
  const Vec y = select(abs(x) < Vec::broadcast(1e-8f), x, log_reduced(l));
  return log_special(u, y);
}

HM_INLINE Vec tanh(Vec x) {
  const Vec t = abs(x), s = t * t;
  const Vec odd = polynomial(s, -3.3333316e-01f, 1.3332544e-01f, -5.3847548e-02f, 2.1050714e-02f,
                             -6.2428494e-03f);
  const Vec near_zero = fma(t * s, odd, t);
  // tanh(t) = 1 - 2 / (exp(2t) + 1), which is 1 from 9.1 on.
  const Vec bounded = at_most(t, Vec::broadcast(10.0f));
  const Vec one = Vec::broadcast(1.0f), two = Vec::broadcast(2.0f);
  const Vec far = one - two / (exp_normal(bounded + bounded) + one);
  return copy_sign(select(t < Vec::broadcast(0.55f), near_zero, far), x);
}

HM_INLINE Vec sigmoid(Vec x) {
  // exp of a negative number only: no overflow, and small results keep their precision.
  const Vec one = Vec::broadcast(1.0f);
  const Vec e = exp(-abs(x));
  const Vec denominator = one + e;
  const Vec y = select(x < Vec::zero(), e, one) / denominator;
  // Takes back the rounding of the denominator, which for small e would cost a whole ULP.
  const Vec rounding = e - (denominator - one);
  return fnma(y, rounding, y);
}

// erf(t) where t < kErfSmall, else erfc(t), for t >= 0. From 3.95 on erfc keeps its value there.
inline constexpr float kErfSmall = 0.875f;
HM_INLINE Vec erf_or_erfc(Vec t) {
  const Vec s = t * t;
  const Vec even = polynomial(s, 1.2837915e-01f, -3.7612504e-01f, 1.1281922e-01f, -2.6770486e-02f,
                              4.998928e-03f, -6.020491e-04f);
  const Vec bounded = at_most(t, Vec::broadcast(3.95f));
  const Vec log_erfc = polynomial(bounded, -1.2852548e-01f, -6.3568044e-01f, -1.0531209e-01f,
                                  2.292238e-02f, -3.2251228e-03f, 2.1522488e-04f);
  const Vec erfc = exp_normal(fma(bounded, log_erfc, -bounded));
  return select(t < Vec::broadcast(kErfSmall), fma(t, even, t), erfc);
}

HM_INLINE Vec erf(Vec x) {
  const Vec t = abs(x), y = erf_or_erfc(t);
  return copy_sign(select(t < Vec::broadcast(kErfSmall), y, Vec::broadcast(1.0f) - y), x);
}

// 2^x for |x| < 126, off by 1.6 units of 2^-24 beside a rounding; of NaN anything. The nearest
// integer is added to the exponent, which no multiplication waits for.
HM_INLINE Vec exp2_normal(Vec x) {
  const Vec magic = Vec::broadcast(12582912.0f);
  const Vec shifted = x + magic;
  const Vec f = x - (shifted - magic);
  const Vec s = f * f;
  const Vec y = fma(f, polynomial(s, 0.693147004f, 0.0555071086f, 0.00132695225f),
                    polynomial(s, 1.0f, 0.240222469f, 0.00967129134f));
  return as_float(as_int(y) + shift_left<23>(as_int(shifted)));
}

// Phi(x), the distribution function of the normal deviate. Phi(-u), u = |x|, is 2 to the power of a
// polynomial, off by 0.7 units of 2^-24 at most before roundings; beyond 6, where Phi(-u) is below
// 1e-9, by up to 8 times itself. u is bounded where it is 1e-34.
inline constexpr float kNormalTail = 12.0f;
HM_INLINE Vec normal_cdf(Vec x) {
  const Vec u = at_most(abs(x), Vec::broadcast(kNormalTail));
  const Vec s = u * u;
  const Vec odd = polynomial(s, -1.1511091f, -0.0526668318f, -0.000384703424f, 1.44136784e-05f);
  const Vec even =
      polynomial(s, -1.0f, -0.459162652f, 0.00735150184f, -7.4415977e-05f, -6.76329705e-07f);
  const Vec tail = exp2_normal(fma(u, odd, even));
  return select(x < Vec::zero(), tail, Vec::broadcast(1.0f) - tail);
}

// Phi(x) + x phi(x), the derivative of x Phi(x), where phi is the density of Phi: at -u it is
// e^(-u^2 / 2) times a polynomial, off by 1.2 units of 2^-24 at most before roundings.
HM_INLINE Vec x_normal_cdf_slope(Vec x) {
  const Vec u = at_most(abs(x), Vec::broadcast(kNormalTail));
  const Vec s = u * u;
  const Vec e = exp2_normal(s * Vec::broadcast(-0.721347520f));
  const Vec odd = polynomial(s, -0.797880638f, -0.132562786f, -0.0244105924f, -0.00200044434f,
                             -3.60450467e-05f);
  const Vec even = polynomial(s, 0.5f, 0.249931067f, 0.0612447746f, 0.00800299086f, 0.000346021028f,
                              1.67851294e-06f);
  const Vec tail = e * fma(u, odd, even);
  return select(x < Vec::zero(), tail, Vec::broadcast(1.0f) - tail);
}

// sigmoid(-v(u)) for u in [0, kTanhTail], v(u) = 2 sqrt(2 / pi) (u + 0.044715 u^3): what gelu's
// tanh form has for Phi(-u), and like it 2 to the power of a polynomial, off by 0.6 units of 2^-24
// at most before roundings. At kTanhTail, to which u is bounded, it is 1e-20.
inline constexpr float kTanhTail = 6.75f;
HM_INLINE Vec tanh_tail(Vec u) {
  const Vec s = u * u;
  const Vec odd =
      polynomial(s, -1.1510998f, -0.05128246f, -0.00014388401f, -0.00057519175f, -3.06304e-05f);
  const Vec even = polynomial(s, -1.0f, -0.45927656f, 0.0074394983f, 0.000108820954f,
                              0.00021389688f, 1.5929621e-06f);
  return exp2_normal(fma(u, odd, even));
}

// sigmoid(v(x)).
HM_INLINE Vec tanh_cdf(Vec x) {
  const Vec tail = tanh_tail(at_most(abs(x), Vec::broadcast(kTanhTail)));
  return select(x < Vec::zero(), tail, Vec::broadcast(1.0f) - tail);
}

// The derivative of x sigmoid(v(x)): at -u it is t (1 - (1 - t) u v'(u)) with t = tanh_tail(u).
HM_INLINE Vec x_tanh_cdf_slope(Vec x) {
  const Vec one = Vec::broadcast(1.0f);
  const Vec u = at_most(abs(x), Vec::broadcast(kTanhTail));
  const Vec t = tanh_tail(u);
  const Vec u_dv =
      u * fma(u * u, Vec::broadcast(0.2140644488178027f), Vec::broadcast(1.5957691216057308f));
  const Vec tail = t * fnma(u_dv, one - t, one);
  return select(x < Vec::zero(), tail, one - tail);
}

HM_INLINE Vec rsqrt(Vec x) { return Vec::broadcast(1.0f) / sqrt(x); }

// sqrt(x), bit for bit, by the multipliers: for use beside the divider, which sqrt keeps busy (10
// cycles for 16 floats on Zen 4, a division 6). Goldschmidt's steps from an estimate, then one that
// uses the exact remainder x - s^2. Tried with every float in [1, 4), which stand for all others,
// and with estimates at both ends of their bound and between: always the rounded root. Vectors with
// an element outside [2^-100, 2^100] are left to sqrt.
HM_INLINE Vec sqrt_by_products(Vec x) {
  if constexpr (kRsqrtBits == 0) {
    return sqrt(x);
  } else {
    const Vec half = Vec::broadcast(0.5f);
    const Vec y = rsqrt_estimate(x);
    Vec s = x * y, h = half * y;
    for (int good = kRsqrtBits; good < 24; good *= 2) {
      const Vec e = fnma(s, h, half);
      s = fma(s, e, s);
      h = fma(h, e, h);
    }
    s = fma(fnma(s, s, x), h, s);
    // Bits of 2^-100 become the least integer.
    constexpr int32_t kLow = INT32_MIN + ((127 - 100) << 23), kRange = INT32_MIN + (200 << 23);
    const Mask other = as_int(x) - VecI::broadcast(kLow) > VecI::broadcast(kRange);
    if (__builtin_expect(any(other), 0)) return sqrt(x);
    return s;
  }
}

// sin and cos of |x| <= kMaxSinCos.
inline constexpr float kMaxSinCos = 12000.0f;

HM_INLINE void sin_cos(Vec x, Vec* sin_x, Vec* cos_x) {
  const Vec magic = Vec::broadcast(12582912.0f);
  const Vec shifted = fma(x, Vec::broadcast(0.636619772f), magic);
  const Vec n = shifted - magic;
  // pi / 2 in four parts, the first three of so few bits that n times a part is exact. What the
  // second and third difference round off is kept in the low part.
  const Vec part1 = Vec::broadcast(4.8398972e-04f), part2 = Vec::broadcast(-1.6298145e-07f);
  const Vec r0 = fnma(n, Vec::broadcast(1.5703125e+00f), x);
  const Vec r1 = fnma(n, part1, r0);
  const Vec r2 = fnma(n, part2, r1);
  const Vec rounded_off = fnma(n, part1, r0 - r1) + fnma(n, part2, r1 - r2);
  const Vec r = r2 + fnma(n, Vec::broadcast(6.0771006e-11f), rounded_off);
  const Vec s = r * r;
  const Vec sine =
      fma(r * s, polynomial(s, -1.6666667e-01f, 8.333379e-03f, -1.9853064e-04f, 2.83251e-06f), r);
  const Vec cosine = fma(s, polynomial(s, -0.5f, 4.1666646e-02f, -1.388731e-03f, 2.4432327e-05f),
                         Vec::broadcast(1.0f));
  // Quadrant: odd ones swap sine and cosine, the upper two (for cos: the middle two) negate.
  const VecI quadrant = as_int(shifted);
  const VecI one = VecI::broadcast(1), sign = VecI::broadcast(INT32_MIN);
  const Mask is_odd = (quadrant & one) == one;
  *sin_x = as_float(as_int(select(is_odd, cosine, sine)) ^ (shift_left<30>(quadrant) & sign));
  *cos_x = as_float(as_int(select(is_odd, sine, cosine)) ^ (shift_left<30>(quadrant + one) & sign));
}

// Lanes beyond kMaxSinCos, infinities and NaN: reduced by as many bits of pi as they need.
HM_INLINE Vec replace_large(Vec x, Vec y, uint32_t quarters) {
  float from[Vec::width], to[Vec::width];
  x.store(from);
  y.store(to);
  for (int i = 0; i < Vec::width; ++i) {
    if (!(__builtin_fabsf(from[i]) <= kMaxSinCos)) to[i] = sin_lane(from[i], quarters);
  }
  return Vec::load(to);
}

HM_INLINE Vec sin(Vec x) {
  Vec s, c;
  sin_cos(x, &s, &c);
  return all(abs(x) <= Vec::broadcast(kMaxSinCos)) ? s : replace_large(x, s, 0);
}

HM_INLINE Vec cos(Vec x) {
  Vec s, c;
  sin_cos(x, &s, &c);
  return all(abs(x) <= Vec::broadcast(kMaxSinCos)) ? c : replace_large(x, c, 1);
}

HM_INLINE Vec pow(Vec x, Vec y) {
  float base[Vec::width], exponent[Vec::width];
  x.store(base);
  y.store(exponent);
  for (int i = 0; i < Vec::width; ++i) base[i] = pow_lane(base[i], exponent[i]);
  return Vec::load(base);
}

}  // namespace handmill::HM_ISA
