// Rows of floats as bytes, and rows of bytes as groups of four.
#pragma once

#include "kernels/lanes.h"
#include "simd/int8_dot.h"

namespace handmill::HM_ISA {

// The bits of the largest magnitude: those of NaN are above those of infinity, and these above all
// others.
HM_INLINE int32_t largest_bits(const float* x, int64_t K) {
  VecI largest = VecI::zero();
  for_each_vector(0, K, [&](int64_t k, auto lanes) {
    const VecI bits = as_int(abs(lanes.load(x + k)));
    largest = select(bits > largest, bits, largest);
  });
  int32_t all[VecI::width];
  largest.store(all);
  int32_t found = 0;
  for (int i = 0; i < VecI::width; ++i) found = all[i] > found ? all[i] : found;
  return found;
}

// Writes q + 128, and returns the step.
inline float quantize(const float* x, uint8_t* out, int64_t K) {
  constexpr int32_t kInfinity = 0x7f800000;
  const int32_t bits = largest_bits(x, K);
  if (bits >= kInfinity) {
    std::memset(out, 128, static_cast<size_t>(K));
    return __builtin_nanf("");
  }
  const float largest = __builtin_bit_cast(float, bits) + 1e-7f;
  const Vec inverse = Vec::broadcast(127.0f / largest);
  const VecI zero = VecI::broadcast(128);
  for_each_vector(0, K, [&](int64_t k, auto lanes) {
    const int64_t left = K - k;
    store_bytes(to_int(lanes.load(x + k) * inverse) + zero, out + k,
                left < VecI::width ? left : VecI::width);
  });
  return largest / 127.0f;
}

// A row of bytes as groups of four; what fills up the last one meets weights of 0.
HM_INLINE void make_groups(uint8_t* bytes, int64_t K, int64_t groups, int32_t* out) {
  for (int64_t k = K; k < 4 * groups; ++k) bytes[k] = 0;
  if constexpr (kGroupWords == 2) {
    for (int64_t g = 0; g < groups; ++g) {
      uint32_t word;
      std::memcpy(&word, bytes + 4 * g, sizeof word);
      out[2 * g] = static_cast<int32_t>(word & 0x00ff00ffu);
      out[2 * g + 1] = static_cast<int32_t>(word >> 8 & 0x00ff00ffu);
    }
  }
}

}  // namespace handmill::HM_ISA
