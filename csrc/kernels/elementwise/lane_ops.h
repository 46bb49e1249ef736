// The operations of tile programs on one element of float64, int32 or int64, and the changes of
// type. Integers wrap around.
#pragma once

#include "kernels/cast/convert.h"
#include "simd/simd.h"

namespace handmill::HM_ISA::lane_ops {

template <class T>
struct WrappingOf {
  using type = T;
};
template <>
struct WrappingOf<int32_t> {
  using type = uint32_t;
};
template <>
struct WrappingOf<int64_t> {
  using type = uint64_t;
};
template <class T>
HM_INLINE typename WrappingOf<T>::type wrapping(T a) {
  return static_cast<typename WrappingOf<T>::type>(a);
}

template <class T>
T copy(T a) {
  return a;
}
template <class T>
T add(T a, T b) {
  return static_cast<T>(wrapping(a) + wrapping(b));
}
template <class T>
T sub(T a, T b) {
  return static_cast<T>(wrapping(a) - wrapping(b));
}
template <class T>
T mul(T a, T b) {
  return static_cast<T>(wrapping(a) * wrapping(b));
}
template <class T>
T div(T a, T b) {
  return a / b;
}
// NaN if either operand is.
template <class T>
T maximum(T a, T b) {
  return (a > b) | (a != a) ? a : b;
}
template <class T>
T minimum(T a, T b) {
  return (a < b) | (a != a) ? a : b;
}
// Of a negative exponent: 0, but for 1 and -1.
template <class T>
T pow(T a, T b) {
  if (b < 0) return a == 1 ? T{1} : a == -1 ? ((b & 1) != 0 ? T{-1} : T{1}) : T{0};
  auto base = wrapping(a), exponent = wrapping(b), y = wrapping(T{1});
  for (; exponent != 0; exponent >>= 1) {
    if ((exponent & 1) != 0) y *= base;
    base *= base;
  }
  return static_cast<T>(y);
}
template <class T>
T clip(T a, T low, T high) {
  const T b = a < low ? low : a;
  return b > high ? high : b;
}
template <class T>
T neg(T a) {
  if constexpr (kIsFloat<T>) return -a;
  return static_cast<T>(T{0} - wrapping(a));
}
template <class T>
T abs(T a) {
  if constexpr (kIsFloat<T>) return __builtin_fabs(a);
  return a < 0 ? neg(a) : a;
}
// The sum turns -0 into 0 and keeps NaN.
template <class T>
T sign(T a) {
  return a > 0 ? T{1} : a < 0 ? T{-1} : static_cast<T>(a + T{0});
}
template <class T>
T square(T a) {
  return mul(a, a);
}
template <class T>
T reciprocal(T a) {
  return 1 / a;
}
template <class T>
T sqrt(T a) {
  return __builtin_sqrt(a);
}
template <class T>
T floor(T a) {
  return __builtin_floor(a);
}
template <class T>
T ceil(T a) {
  return __builtin_ceil(a);
}
template <class T>
T trunc(T a) {
  return __builtin_trunc(a);
}
template <class T>
T round(T a) {
  return __builtin_rint(a);
}
template <class T>
T relu(T a) {
  return a < 0 ? T{0} : a;
}
template <class T>
T relu_grad(T dy, T y) {
  return y > 0 ? dy : T{0};
}
template <class T>
T leaky_relu(T a, T alpha) {
  return a < 0 ? alpha * a : a;
}
template <class T>
T leaky_relu_grad(T dy, T a, T alpha) {
  return a > 0 ? dy : alpha * dy;
}
template <class T>
T clip_grad(T dy, T a, T low, T high) {
  return (low <= a) & (a <= high) ? dy : T{0};
}

template <class T>
T equal(T a, T b) {
  return static_cast<T>(a == b);
}
template <class T>
T not_equal(T a, T b) {
  return static_cast<T>(a != b);
}
template <class T>
T less(T a, T b) {
  return static_cast<T>(a < b);
}
template <class T>
T less_equal(T a, T b) {
  return static_cast<T>(a <= b);
}
template <class T>
T greater(T a, T b) {
  return static_cast<T>(a > b);
}
template <class T>
T greater_equal(T a, T b) {
  return static_cast<T>(a >= b);
}
template <class T>
T truth(T a) {
  return static_cast<T>(a != 0);
}
template <class T>
T logical_and(T a, T b) {
  return static_cast<T>((a != 0) & (b != 0));
}
template <class T>
T logical_or(T a, T b) {
  return static_cast<T>((a != 0) | (b != 0));
}
template <class T>
T logical_not(T a) {
  return static_cast<T>(a == 0);
}
template <class T>
T isfinite(T a) {
  return static_cast<T>(abs(a) < __builtin_inf());
}
template <class T>
T isnan(T a) {
  return static_cast<T>(a != a);
}
template <class T>
T isinf(T a) {
  return static_cast<T>(abs(a) == __builtin_inf());
}
template <class T>
T where(T condition, T a, T b) {
  return condition != 0 ? a : b;
}

template <class T>
float to_float32(T a) {
  return convert<float>(a);
}
template <class T>
double to_float64(T a) {
  return convert<double>(a);
}
template <class T>
int32_t to_int32(T a) {
  return convert<int32_t>(a);
}
template <class T>
int64_t to_int64(T a) {
  return convert<int64_t>(a);
}
template <class T>
T wrap_int8(T a) {
  return static_cast<int8_t>(a);
}
template <class T>
T wrap_uint8(T a) {
  return static_cast<uint8_t>(a);
}
template <class T>
T clamp_int8(T a) {
  return clip<T>(a, -128, 127);
}
template <class T>
T clamp_uint8(T a) {
  return clip<T>(a, 0, 255);
}

}  // namespace handmill::HM_ISA::lane_ops
