// What follows a sum of products of bytes: factors, bias, activation, and the way back to bytes.
#pragma once

#include "kernels/int8/args.h"
#include "kernels/lanes.h"
#include "simd/activations.h"
#include "simd/int8_dot.h"

namespace handmill::HM_ISA {

// What is the same for all rows, in registers: stores of results might otherwise change it.
struct Int8Finish {
  const float *factors, *bias;
  void* y;
  int64_t N;
  ByteFormat format;
  Activation activation;
  bool has_bytes;

  template <class Args>
  HM_INLINE explicit Int8Finish(const Args& a)
      : factors(a.factors),
        bias(a.bias),
        y(a.y),
        N(a.N),
        format(a.format == nullptr ? kNoFormat : a.format),
        activation(a.activation),
        has_bytes(a.format != nullptr) {}

  // Scaled sums of the columns from n on, of row m; `of_bias` is read where there is a bias.
  template <class Lanes>
  HM_INLINE void put(Vec v, Vec of_bias, int64_t m, int64_t n, int64_t last, Lanes lanes) const {
    if (bias != nullptr) v = v + of_bias;
    if (activation == Activation::relu) v = relu(v);
    if (activation == Activation::relu6) v = relu6(v);
    if (has_bytes) {
      const int64_t left = last - n;
      store_bytes(format.of(v), static_cast<uint8_t*>(y) + m * N + n,
                  left < VecI::width ? left : VecI::width);
    } else {
      lanes.store(v, static_cast<float*>(y) + m * N + n);
    }
  }

  // Columns [first, last) of row m, whose factors are multiplied by `step` where there is one.
  HM_INLINE void row(const int32_t* sums, const float* step, int64_t m, int64_t first,
                     int64_t last) const {
    const Vec of_row = Vec::broadcast(step == nullptr ? 1.0f : *step);
    for_each_vector(first, last, [&](int64_t n, auto lanes) {
      Vec factor = lanes.load(factors + n);
      if (step != nullptr) factor = of_row * factor;
      const Vec v = to_float(VecI::load(sums + (n - first))) * factor;
      put(v, bias != nullptr ? lanes.load(bias + n) : factor, m, n, last, lanes);
    });
  }

 private:
  static constexpr float kNoFormat[2] = {1.0f, 0.0f};
};

}  // namespace handmill::HM_ISA
