// The contract of Vec, and the portable level: GNU vectors of four floats (SSE2 on x86-64, NEON on
// AArch64). vec_avx2.h and vec_avx512.h implement the same operations for wider registers.
//
// Loads and stores need no alignment beyond that of one element. The _n forms take 0 <= n <= width,
// touch only the first n elements and read 0 in the other lanes. Comparisons with NaN are false,
// except != which is true. Operations are those of IEEE 754 in round-to-nearest; none is flushed.
#pragma once

namespace handmill::HM_ISA {

typedef float FloatLanes __attribute__((vector_size(16)));
typedef int32_t IntLanes __attribute__((vector_size(16)));
typedef uint32_t UnsignedLanes __attribute__((vector_size(16)));

// One truth value per lane; the layout differs from level to level.
struct Mask {
  IntLanes m;
};

HM_INLINE Mask operator&(Mask a, Mask b) { return {a.m & b.m}; }
HM_INLINE Mask operator|(Mask a, Mask b) { return {a.m | b.m}; }
HM_INLINE Mask operator^(Mask a, Mask b) { return {a.m ^ b.m}; }
HM_INLINE Mask operator~(Mask a) { return {~a.m}; }
HM_INLINE bool any(Mask a) { return (a.m[0] | a.m[1] | a.m[2] | a.m[3]) != 0; }
HM_INLINE bool all(Mask a) { return (a.m[0] & a.m[1] & a.m[2] & a.m[3]) != 0; }
// The first lane that is true; one is.
HM_INLINE int64_t first_true(Mask a) {
  return a.m[0] != 0 ? 0 : a.m[1] != 0 ? 1 : a.m[2] != 0 ? 2 : 3;
}
// True in lanes 0 .. n - 1.
HM_INLINE Mask first_lanes(int64_t n) {
  const int32_t count = static_cast<int32_t>(n);
  return {IntLanes{0, 1, 2, 3} < IntLanes{count, count, count, count}};
}

// int32 lanes; arithmetic wraps around.
struct VecI {
  static constexpr int width = 4;
  IntLanes v;

  HM_INLINE static VecI zero() { return {IntLanes{}}; }
  HM_INLINE static VecI broadcast(int32_t x) { return {IntLanes{x, x, x, x}}; }
  HM_INLINE static VecI iota() { return {IntLanes{0, 1, 2, 3}}; }
  HM_INLINE static VecI load(const int32_t* p) {
    VecI r;
    std::memcpy(&r.v, p, sizeof r.v);
    return r;
  }
  HM_INLINE static VecI load_n(const int32_t* p, int64_t n) {
    return {IntLanes{n > 0 ? p[0] : 0, n > 1 ? p[1] : 0, n > 2 ? p[2] : 0, n > 3 ? p[3] : 0}};
  }
  HM_INLINE void store(int32_t* p) const { std::memcpy(p, &v, sizeof v); }
  HM_INLINE void store_n(int32_t* p, int64_t n) const {
    if (n > 0) p[0] = v[0];
    if (n > 1) p[1] = v[1];
    if (n > 2) p[2] = v[2];
    if (n > 3) p[3] = v[3];
  }
};

HM_INLINE VecI from_unsigned(UnsignedLanes a) { return {reinterpret_cast<IntLanes>(a)}; }
HM_INLINE UnsignedLanes to_unsigned(VecI a) { return reinterpret_cast<UnsignedLanes>(a.v); }

HM_INLINE VecI operator+(VecI a, VecI b) { return from_unsigned(to_unsigned(a) + to_unsigned(b)); }
HM_INLINE VecI operator-(VecI a, VecI b) { return from_unsigned(to_unsigned(a) - to_unsigned(b)); }
HM_INLINE VecI operator*(VecI a, VecI b) { return from_unsigned(to_unsigned(a) * to_unsigned(b)); }
HM_INLINE VecI operator&(VecI a, VecI b) { return {a.v & b.v}; }
HM_INLINE VecI operator|(VecI a, VecI b) { return {a.v | b.v}; }
HM_INLINE VecI operator^(VecI a, VecI b) { return {a.v ^ b.v}; }
// Shifts by a constant, 0 <= kBits < 32.
template <int kBits>
HM_INLINE VecI shift_left(VecI a) {
  return from_unsigned(to_unsigned(a) << kBits);
}
template <int kBits>
HM_INLINE VecI shift_right_logical(VecI a) {
  return from_unsigned(to_unsigned(a) >> kBits);
}
template <int kBits>
HM_INLINE VecI shift_right_arithmetic(VecI a) {
  return {a.v >> kBits};
}
// The high 32 bits of the unsigned 64-bit products.
HM_INLINE VecI mul_high_unsigned(VecI a, VecI b) {
  const UnsignedLanes x = to_unsigned(a), y = to_unsigned(b);
  UnsignedLanes high{};
  for (int i = 0; i < VecI::width; ++i) {
    high[i] = static_cast<uint32_t>((static_cast<uint64_t>(x[i]) * y[i]) >> 32);
  }
  return from_unsigned(high);
}
HM_INLINE Mask operator==(VecI a, VecI b) { return {a.v == b.v}; }
HM_INLINE Mask operator<(VecI a, VecI b) { return {a.v < b.v}; }
HM_INLINE Mask operator>(VecI a, VecI b) { return {a.v > b.v}; }
// a where m holds, b elsewhere.
HM_INLINE VecI select(Mask m, VecI a, VecI b) { return {(m.m & a.v) | (~m.m & b.v)}; }

struct Vec {
  static constexpr int width = 4;
  FloatLanes v;

  HM_INLINE static Vec zero() { return {FloatLanes{}}; }
  HM_INLINE static Vec broadcast(float x) { return {FloatLanes{x, x, x, x}}; }
  HM_INLINE static Vec iota() { return {FloatLanes{0.0f, 1.0f, 2.0f, 3.0f}}; }
  HM_INLINE static Vec load(const float* p) {
    Vec r;
    std::memcpy(&r.v, p, sizeof r.v);
    return r;
  }
  HM_INLINE static Vec load_n(const float* p, int64_t n) {
    return {FloatLanes{n > 0 ? p[0] : 0.0f, n > 1 ? p[1] : 0.0f, n > 2 ? p[2] : 0.0f,
                       n > 3 ? p[3] : 0.0f}};
  }
  HM_INLINE void store(float* p) const { std::memcpy(p, &v, sizeof v); }
  HM_INLINE void store_n(float* p, int64_t n) const {
    if (n > 0) p[0] = v[0];
    if (n > 1) p[1] = v[1];
    if (n > 2) p[2] = v[2];
    if (n > 3) p[3] = v[3];
  }
};

// as_*: the same bits. to_float: rounds to nearest even. to_int: rounds to nearest even, for
// magnitudes below 2^31 only.
HM_INLINE VecI as_int(Vec a) { return {reinterpret_cast<IntLanes>(a.v)}; }
HM_INLINE Vec as_float(VecI a) { return {reinterpret_cast<FloatLanes>(a.v)}; }
HM_INLINE Vec to_float(VecI a) { return {__builtin_convertvector(a.v, FloatLanes)}; }

HM_INLINE Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
HM_INLINE Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
HM_INLINE Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
HM_INLINE Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
HM_INLINE Vec operator-(Vec a) { return {-a.v}; }
// fma: a * b + c. fnma: c - a * b. One rounding where the level has the instruction, two here:
// callers may rely on neither. fma_low: of the first half of the lanes, cheaper where that is half
// the work; the others hold anything.
HM_INLINE Vec fma(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
HM_INLINE Vec fma_low(Vec a, Vec b, Vec c) { return fma(a, b, c); }
HM_INLINE Vec fma_low(float a, Vec b, Vec c) { return fma(Vec::broadcast(a), b, c); }
HM_INLINE Vec fnma(Vec a, Vec b, Vec c) { return {c.v - a.v * b.v}; }

HM_INLINE Mask operator<(Vec a, Vec b) { return {a.v < b.v}; }
HM_INLINE Mask operator<=(Vec a, Vec b) { return {a.v <= b.v}; }
HM_INLINE Mask operator>(Vec a, Vec b) { return {a.v > b.v}; }
HM_INLINE Mask operator>=(Vec a, Vec b) { return {a.v >= b.v}; }
HM_INLINE Mask operator==(Vec a, Vec b) { return {a.v == b.v}; }
HM_INLINE Mask operator!=(Vec a, Vec b) { return {a.v != b.v}; }
HM_INLINE Mask is_nan(Vec a) { return {a.v != a.v}; }
HM_INLINE Vec select(Mask m, Vec a, Vec b) { return as_float(select(m, as_int(a), as_int(b))); }

// Bounds that are not NaN; NaN in a stays. One instruction on x86, unlike max and min.
HM_INLINE Vec at_least(Vec a, Vec bound) { return select(a < bound, bound, a); }
HM_INLINE Vec at_most(Vec a, Vec bound) { return select(a > bound, bound, a); }
// NaN if either operand is NaN, as numpy.maximum. The sign of a zero result is unspecified.
HM_INLINE Vec max(Vec a, Vec b) { return select((a > b) | is_nan(a), a, b); }
HM_INLINE Vec min(Vec a, Vec b) { return select((a < b) | is_nan(a), a, b); }
HM_INLINE Vec abs(Vec a) { return as_float(as_int(a) & VecI::broadcast(INT32_MAX)); }
HM_INLINE Vec copy_sign(Vec magnitude, Vec sign) {
  return as_float(as_int(abs(magnitude)) | (as_int(sign) & VecI::broadcast(INT32_MIN)));
}
HM_INLINE Vec sqrt(Vec a) {
  return {FloatLanes{__builtin_sqrtf(a.v[0]), __builtin_sqrtf(a.v[1]), __builtin_sqrtf(a.v[2]),
                     __builtin_sqrtf(a.v[3])}};
}
// 1 / sqrt(a) for a in [2^-100, 2^100], less than 2^-kRsqrtBits of it off; the rest depends on the
// CPU. 0: there is none worth using.
inline constexpr int kRsqrtBits = 0;
HM_INLINE Vec rsqrt_estimate(Vec a) { return a; }
// Half to even. Adding and subtracting 2^23 drops the fraction bits.
HM_INLINE Vec round_nearest(Vec a) {
  const Vec magnitude = abs(a);
  const Vec magic = Vec::broadcast(8388608.0f);
  const Vec rounded = copy_sign((magnitude + magic) - magic, a);
  return select(magnitude < magic, rounded, a);
}
HM_INLINE Vec floor(Vec a) {
  const Vec rounded = round_nearest(a);
  const Vec one = Vec::broadcast(1.0f);
  return select(rounded > a, rounded - one, rounded);
}
HM_INLINE Vec ceil(Vec a) { return -floor(-a); }
HM_INLINE VecI to_int(Vec a) { return {__builtin_convertvector(round_nearest(a).v, IntLanes)}; }
// a * 2^n rounded once, for integer-valued |n| <= 252 and a of ordinary size (about 1). Two
// factors: one alone would leave the exponent range before the product does.
HM_INLINE Vec scale_by_power_of_two(Vec a, Vec n) {
  const VecI exponent{__builtin_convertvector(n.v, IntLanes)};
  const VecI half = shift_right_arithmetic<1>(exponent);
  const VecI bias = VecI::broadcast(127);
  const Vec first = as_float(shift_left<23>(half + bias));
  const Vec second = as_float(shift_left<23>(exponent - half + bias));
  return a * first * second;
}

// Fixed tree: the upper half of the lanes is combined onto the lower half until one lane is left.
HM_INLINE float reduce_add(Vec a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
HM_INLINE float reduce_max(Vec a) {
  const Vec pairs = max(a, {FloatLanes{a.v[2], a.v[3], a.v[2], a.v[3]}});
  return max(pairs, Vec::broadcast(pairs.v[1])).v[0];
}
HM_INLINE float reduce_min(Vec a) {
  const Vec pairs = min(a, {FloatLanes{a.v[2], a.v[3], a.v[2], a.v[3]}});
  return min(pairs, Vec::broadcast(pairs.v[1])).v[0];
}

// Loads that convert to float32.
HM_INLINE Vec load_u8_n(const uint8_t* p, int64_t n) {
  const int32_t lanes[Vec::width] = {n > 0 ? p[0] : 0, n > 1 ? p[1] : 0, n > 2 ? p[2] : 0,
                                     n > 3 ? p[3] : 0};
  return to_float(VecI::load(lanes));
}
HM_INLINE Vec load_u8(const uint8_t* p) { return load_u8_n(p, Vec::width); }
HM_INLINE Vec load_i32(const int32_t* p) { return to_float(VecI::load(p)); }
HM_INLINE Vec load_i32_n(const int32_t* p, int64_t n) { return to_float(VecI::load_n(p, n)); }

// bfloat16 travels as its bits: the upper half of the float32. Stores round to nearest even.
HM_INLINE Vec load_bf16_n(const uint16_t* p, int64_t n) {
  const int32_t lanes[Vec::width] = {n > 0 ? p[0] : 0, n > 1 ? p[1] : 0, n > 2 ? p[2] : 0,
                                     n > 3 ? p[3] : 0};
  return as_float(shift_left<16>(VecI::load(lanes)));
}
HM_INLINE Vec load_bf16(const uint16_t* p) { return load_bf16_n(p, Vec::width); }
HM_INLINE void store_bf16_n(Vec a, uint16_t* p, int64_t n) {
  const VecI bits = as_int(a);
  const VecI high = shift_right_logical<16>(bits);
  const VecI round = VecI::broadcast(0x7fff) + (high & VecI::broadcast(1));
  const VecI quiet_nan = high | VecI::broadcast(0x40);
  const VecI rounded = select(is_nan(a), quiet_nan, shift_right_logical<16>(bits + round));
  for (int i = 0; i < n; ++i) p[i] = static_cast<uint16_t>(rounded.v[i]);
}
HM_INLINE void store_bf16(Vec a, uint16_t* p) { store_bf16_n(a, p, Vec::width); }

}  // namespace handmill::HM_ISA
