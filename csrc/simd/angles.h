// Inverse trigonometric functions, hyperbolic functions and their inverses on Vec, for all float32
// inputs, as math.h has the others.
//
// Largest error of any level against float64, in ULP, over every 257th input or more; arctan2: over
// 4 million pairs.
//   sinh 2.7, cosh 2.7, arcsin 2.1, arccos 2.0, arctan 1.4, arctan2 1.5, arcsinh 1.9, arccosh 1.9,
//   arctanh 2.0
#pragma once

#include "simd/math.h"

namespace handmill::HM_ISA {

// arctan(z) for 0 <= z <= 1: a minimax fit of (arctan(z) / z - 1) / z^2, off by 2.7e-9 of arctan.
HM_INLINE Vec arctan_unit(Vec z) {
  const Vec s = z * z;
  const Vec p =
      polynomial(s, -0.333332986f, 0.199985236f, -0.142639041f, 0.109500833f, -0.0839643031f,
                 0.0578237325f, -0.0310319066f, 0.010830001f, -0.00177340407f);
  return fma(z * s, p, z);
}

// turns pi / 2 - r, where turns is 1 or 2; the low part of pi goes to r first.
template <int turns>
HM_INLINE Vec from_right_angle(Vec r) {
  return Vec::broadcast(turns * 1.57079637f) - (r + Vec::broadcast(turns * 4.37113883e-8f));
}

HM_INLINE Vec arctan(Vec x) {
  const Vec t = abs(x), one = Vec::broadcast(1.0f);
  const Mask steep = t > one;
  const Vec r = arctan_unit(select(steep, one / t, t));
  return copy_sign(select(steep, from_right_angle<1>(r), r), x);
}

// The angle of the point (x, y); the signs of zeros count.
HM_INLINE Vec arctan2(Vec y, Vec x) {
  const Vec a = abs(y), b = abs(x), one = Vec::broadcast(1.0f);
  const Vec larger = max(a, b), smaller = min(a, b);
  // Equal sizes may be infinite, and may be zero.
  const Vec equal = select(larger == Vec::zero(), Vec::zero(), one);
  const Vec r = arctan_unit(select(smaller == larger, equal, smaller / larger));
  const Vec acute = select(a > b, from_right_angle<1>(r), r);
  const Mask left = copy_sign(one, x) < Vec::zero();
  return copy_sign(select(left, from_right_angle<2>(acute), acute), y);
}

// sqrt(1 - x^2): each factor is exact or rounded once. NaN beyond 1.
HM_INLINE Vec other_leg(Vec x) {
  const Vec one = Vec::broadcast(1.0f);
  return sqrt((one - x) * (one + x));
}

HM_INLINE Vec arcsin(Vec x) { return arctan2(x, other_leg(x)); }
HM_INLINE Vec arccos(Vec x) { return arctan2(other_leg(x), x); }

// e^t / 2 for t >= 0, where e^t may be too large.
HM_INLINE Vec half_exp(Vec t) {
  const Vec root = exp(t * Vec::broadcast(0.5f));
  return root * Vec::broadcast(0.5f) * root;
}

// From here on e^-t counts for nothing beside e^t.
inline constexpr float kHyperbolicLarge = 20.0f;

HM_INLINE Vec sinh(Vec x) {
  const Vec t = abs(x), half = Vec::broadcast(0.5f);
  const Vec e = expm1(t);
  const Vec y = half * (e + e / (e + Vec::broadcast(1.0f)));
  return copy_sign(select(t < Vec::broadcast(kHyperbolicLarge), y, half_exp(t)), x);
}

HM_INLINE Vec cosh(Vec x) {
  const Vec t = abs(x), half = Vec::broadcast(0.5f);
  const Vec e = exp(t);
  const Vec y = fma(half, e, half / e);
  return select(t < Vec::broadcast(kHyperbolicLarge), y, half_exp(t));
}

// From here on the inverses are log(2 t), and log(1 + t) is log(t).
inline constexpr float kInverseLarge = 1e9f;

// log(1 + small), or log(2 t) where t is large.
HM_INLINE Vec log_of_sum(Mask is_large, Vec t, Vec small) {
  const Vec more = select(is_large, Vec::broadcast(0.693147181f), Vec::broadcast(0.0f));
  return log1p(select(is_large, t, small)) + more;
}

HM_INLINE Vec arcsinh(Vec x) {
  // log(t + sqrt(1 + t^2)) = log1p(t + t^2 / (1 + sqrt(1 + t^2)))
  const Vec t = abs(x), one = Vec::broadcast(1.0f), s = t * t;
  const Vec y = t + s / (one + sqrt(one + s));
  return copy_sign(log_of_sum(t > Vec::broadcast(kInverseLarge), t, y), x);
}

HM_INLINE Vec arccosh(Vec x) {
  // log(x + sqrt(x^2 - 1)) = log1p(u + sqrt(u (u + 2))), u = x - 1
  const Vec one = Vec::broadcast(1.0f), u = x - one;
  const Vec y = u + sqrt(u * (u + Vec::broadcast(2.0f)));
  const Vec found = log_of_sum(x > Vec::broadcast(kInverseLarge), x, y);
  return select(x < one, Vec::broadcast(__builtin_nanf("")), found);
}

HM_INLINE Vec arctanh(Vec x) {
  // log((1 + t) / (1 - t)) / 2 = log1p(2 t / (1 - t)) / 2; NaN beyond 1.
  const Vec t = abs(x);
  const Vec y = log1p((t + t) / (Vec::broadcast(1.0f) - t)) * Vec::broadcast(0.5f);
  return copy_sign(y, x);
}

}  // namespace handmill::HM_ISA
