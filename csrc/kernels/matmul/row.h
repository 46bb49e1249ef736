// One row times a matrix: the product of a single sample with weights in place.
#pragma once

#include "simd/simd.h"

namespace handmill::HM_ISA {

// c[n] (+)= sum_k a[k * a_stride] b[k * b_stride + n] (* scale[n]) (+ bias[n]), then relu if
// asked, for N columns. The sum is one chain in the order of k, as in the register tiles.
struct RowProduct {
  const float* a;
  const float* b;
  float* c;
  const float* scale;  // null: none
  const float* bias;   // null: none
  int64_t a_stride, b_stride;
  int64_t N, K;
  bool add_to_c;
  bool relu;
};

void row_product(const RowProduct& p);

}  // namespace handmill::HM_ISA
