// Activation functions on Vec, and their gradients: op_grad(dy, ...) is dy times the derivative, as
// a function of the activation's output y where that is enough, of its input x otherwise.
#pragma once

#include "simd/math.h"

namespace handmill::HM_ISA {

inline constexpr float kSeluScale = 1.05070098735548049342f;
inline constexpr float kSeluAlpha = 1.67326324235437728481f;

HM_INLINE Vec clip(Vec x, Vec low, Vec high) { return at_most(at_least(x, low), high); }

HM_INLINE Vec relu(Vec x) { return at_least(x, Vec::zero()); }
HM_INLINE Vec relu_grad(Vec dy, Vec y) { return select(y > Vec::zero(), dy, Vec::zero()); }

HM_INLINE Vec relu6(Vec x) { return clip(x, Vec::zero(), Vec::broadcast(6.0f)); }
HM_INLINE Vec relu6_grad(Vec dy, Vec y) {
  return select((y > Vec::zero()) & (y < Vec::broadcast(6.0f)), dy, Vec::zero());
}

HM_INLINE Vec leaky_relu(Vec x, Vec alpha) { return select(x < Vec::zero(), alpha * x, x); }
HM_INLINE Vec leaky_relu_grad(Vec dy, Vec x, Vec alpha) {
  return select(x > Vec::zero(), dy, alpha * dy);
}

HM_INLINE Vec elu(Vec x, Vec alpha) { return select(x < Vec::zero(), alpha * expm1(x), x); }
HM_INLINE Vec elu_grad(Vec dy, Vec y, Vec alpha) {
  return select(y > Vec::zero(), dy, dy * (y + alpha));
}

HM_INLINE Vec selu(Vec x) {
  return Vec::broadcast(kSeluScale) * elu(x, Vec::broadcast(kSeluAlpha));
}
HM_INLINE Vec selu_grad(Vec dy, Vec y) {
  const Vec scale = Vec::broadcast(kSeluScale);
  return dy * select(y > Vec::zero(), scale, y + Vec::broadcast(kSeluScale * kSeluAlpha));
}

HM_INLINE Vec softplus(Vec x) { return relu(x) + log1p(exp(-abs(x))); }
HM_INLINE Vec softplus_grad(Vec dy, Vec x) { return dy * sigmoid(x); }

HM_INLINE Vec softsign(Vec x) { return x / (Vec::broadcast(1.0f) + abs(x)); }
HM_INLINE Vec softsign_grad(Vec dy, Vec x) {
  const Vec d = Vec::broadcast(1.0f) + abs(x);
  return dy / (d * d);
}

HM_INLINE Vec sigmoid_grad(Vec dy, Vec y) { return dy * (y * (Vec::broadcast(1.0f) - y)); }
HM_INLINE Vec tanh_grad(Vec dy, Vec y) { return dy * fnma(y, y, Vec::broadcast(1.0f)); }

HM_INLINE Vec hard_sigmoid(Vec x) {
  return relu6(x + Vec::broadcast(3.0f)) * Vec::broadcast(1.0f / 6.0f);
}
HM_INLINE Vec hard_sigmoid_grad(Vec dy, Vec y) {
  const Mask inside = (y > Vec::zero()) & (y < Vec::broadcast(1.0f));
  return select(inside, dy * Vec::broadcast(1.0f / 6.0f), Vec::zero());
}

HM_INLINE Vec hard_silu(Vec x) { return x * hard_sigmoid(x); }
HM_INLINE Vec hard_silu_grad(Vec dy, Vec x) {
  const Vec three = Vec::broadcast(3.0f);
  const Vec slope = (x + x + three) * Vec::broadcast(1.0f / 6.0f);
  return dy * select(x <= -three, Vec::zero(), select(x >= three, Vec::broadcast(1.0f), slope));
}

HM_INLINE Vec silu(Vec x) { return x * sigmoid(x); }
HM_INLINE Vec silu_grad(Vec dy, Vec x) {
  const Vec one = Vec::broadcast(1.0f), s = sigmoid(x);
  return dy * (s * fma(x, one - s, one));
}

HM_INLINE Vec gelu(Vec x) { return at_least(x, Vec::broadcast(-kNormalTail)) * normal_cdf(x); }
HM_INLINE Vec gelu_grad(Vec dy, Vec x) { return dy * x_normal_cdf_slope(x); }

HM_INLINE Vec gelu_tanh(Vec x) { return at_least(x, Vec::broadcast(-kTanhTail)) * tanh_cdf(x); }
HM_INLINE Vec gelu_tanh_grad(Vec dy, Vec x) { return dy * x_tanh_cdf_slope(x); }

// tanh(log(1 + e^x)) = w / (w + 2) with w = e^x (e^x + 2), which is 1 from 20 on.
HM_INLINE Vec mish(Vec x) {
  const Vec two = Vec::broadcast(2.0f);
  const Vec e = exp(at_most(x, Vec::broadcast(20.0f)));
  const Vec w = e * (e + two);
  return x * (w / (w + two));
}
HM_INLINE Vec mish_grad(Vec dy, Vec x) {
  const Vec one = Vec::broadcast(1.0f), two = Vec::broadcast(2.0f);
  const Vec bounded = clip(x, Vec::broadcast(-100.0f), Vec::broadcast(20.0f));
  const Vec e = exp(bounded);
  const Vec w = e * (e + two);
  const Vec t = w / (w + two);
  const Vec one_minus_square = (one - t) * (one + t);
  return dy * fma(bounded * one_minus_square, e / (one + e), t);
}

}  // namespace handmill::HM_ISA
