// Conversions between the element types of tensors.
#pragma once

#include "kernels/types.h"
#include "simd/simd.h"

namespace handmill::HM_ISA {

struct Bfloat16 {
  uint16_t bits;
};
struct Bool {
  uint8_t value;  // 0 or 1; any other value reads as 1
};

template <class From>
HM_INLINE float to_float32(From x) {
  return static_cast<float>(x);
}
HM_INLINE float to_float32(Bool x) { return x.value != 0 ? 1.0f : 0.0f; }
HM_INLINE float to_float32(Bfloat16 x) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(x.bits) << 16);
}

// Rounds to nearest even; NaN stays a (quiet) NaN.
HM_INLINE Bfloat16 to_bfloat16(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return {static_cast<uint16_t>(x != x ? (bits >> 16) | 0x40 : rounded)};
}

template <class T>
struct ConvertTo {
  template <class From>
  HM_INLINE static T from(From x) {
    return static_cast<T>(x);
  }
  HM_INLINE static T from(Bool x) { return static_cast<T>(x.value != 0); }
  HM_INLINE static T from(Bfloat16 x) { return static_cast<T>(to_float32(x)); }
};
template <>
struct ConvertTo<Bool> {
  template <class From>
  HM_INLINE static Bool from(From x) {
    return {static_cast<uint8_t>(x != From{})};
  }
  HM_INLINE static Bool from(Bool x) { return {static_cast<uint8_t>(x.value != 0)}; }
  HM_INLINE static Bool from(Bfloat16 x) { return from(to_float32(x)); }
};
template <>
struct ConvertTo<Bfloat16> {
  template <class From>
  HM_INLINE static Bfloat16 from(From x) {
    return to_bfloat16(to_float32(x));
  }
  HM_INLINE static Bfloat16 from(Bfloat16 x) { return x; }
};

template <class T, class U>
constexpr bool kIsSame = false;
template <class T>
constexpr bool kIsSame<T, T> = true;
template <class T>
constexpr bool kIsFloat = kIsSame<T, float> || kIsSame<T, double>;

// Integers to narrower integers keep the low bits. Floats to integers are cut toward zero, what
// does not fit becomes the nearest integer that does, NaN becomes 0. To bool: whether it is not
// zero. To bfloat16: to float32, then to the nearest, ties to even.
template <class To, class From>
HM_INLINE To convert(From x) {
  if constexpr (kIsSame<From, Bfloat16>) {
    return convert<To>(to_float32(x));
  } else if constexpr (kIsSame<To, Bfloat16> || kIsSame<To, Bool> || kIsSame<From, Bool>) {
    return ConvertTo<To>::from(x);
  } else if constexpr (kIsFloat<From> && !kIsFloat<To>) {
    constexpr bool is_signed = static_cast<To>(-1) < static_cast<To>(0);
    constexpr int bits = 8 * static_cast<int>(sizeof(To)) - (is_signed ? 1 : 0);
    constexpr To largest = static_cast<To>((((uint64_t{1} << (bits - 1)) - 1) << 1) + 1);
    constexpr To smallest = static_cast<To>(is_signed ? -largest - 1 : 0);
    // 2^bits is exact in either float; `largest` itself need not be.
    constexpr From limit = static_cast<From>(uint64_t{1} << (bits - 1)) * 2;
    if (x >= limit) return largest;
    if (x < static_cast<From>(smallest)) return smallest;
    return x == x ? static_cast<To>(x) : To{0};
  } else {
    return static_cast<To>(x);
  }
}

template <class T>
struct ElementType {
  using type = T;
};

// f(ElementType<T>{}) with the element type T of a dtype.
template <class F>
HM_INLINE void with_element_type(Dtype dtype, F f) {
  switch (dtype) {
    case Dtype::float32:
      return f(ElementType<float>{});
    case Dtype::float64:
      return f(ElementType<double>{});
    case Dtype::bfloat16:
      return f(ElementType<Bfloat16>{});
    case Dtype::int8:
      return f(ElementType<int8_t>{});
    case Dtype::uint8:
      return f(ElementType<uint8_t>{});
    case Dtype::int32:
      return f(ElementType<int32_t>{});
    case Dtype::int64:
      return f(ElementType<int64_t>{});
    case Dtype::bool_:
      return f(ElementType<Bool>{});
  }
}

}  // namespace handmill::HM_ISA
