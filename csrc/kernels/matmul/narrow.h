// The gradient of a narrow layer, X^T dY with few columns: one vector of it would hold mostly
// nothing.
#pragma once

#include <cstdint>

#include "kernels/optimizer/args.h"
#include "simd/simd.h"

namespace handmill::HM_ISA {

// dw[m, n] = sum_k x[k * x_stride + m] dy[k * dy_stride + n] for M x N, which updates the parameter
// from `offset` elements on, where its rows of N floats lie without gaps.
struct NarrowGradient {
  const float *x, *dy;
  int64_t x_stride, dy_stride;
  int64_t M, N, K;
  int64_t offset;
};

// Columns up to which it is computed turned, as dY^T X: with the same bits.
constexpr int64_t kMostNarrowColumns = 3 * Vec::width / 4;

void update_narrow(const NarrowGradient& p, const UpdateArgs& update);

}  // namespace handmill::HM_ISA
