// Matrix products by dot products: A along rows, B given transposed, few rows of A or one column of
// B. Every operand is read in place and in order, where packing B would cost more than it saves.
#pragma once

#include "simd/simd.h"

namespace handmill::HM_ISA {

// c[m, n] = sum_k a[m * a_stride + k] b[n * b_stride + k] (* scale[n]) (+ bias[n]), then relu if
// asked. The sum runs over the lanes of one vector, these are combined in a fixed tree.
struct DotProducts {
  const float* a;
  const float* b;
  float* c;
  const float* scale;  // null: none
  const float* bias;   // null: none
  int64_t a_stride, b_stride, c_stride;
  int64_t M, N, K;
  bool relu;
};

void dot_products(const DotProducts& p);

}  // namespace handmill::HM_ISA
