// What the files of the matmul family share: even partitions, copies, the epilogue.
#pragma once

#include "kernels/matmul/args.h"
#include "kernels/range.h"
#include "simd/simd.h"
#include "simd/tile.h"

namespace handmill::HM_ISA {

// Cuts `size` into `parts` consecutive parts whose sizes differ by at most one, long ones first.
struct Split {
  int64_t quotient, remainder;

  HM_INLINE Split(int64_t size, int64_t parts) : quotient(size / parts), remainder(size % parts) {}
  HM_INLINE int64_t at(int64_t part) const {
    return part * quotient + (part < remainder ? part : remainder);
  }
};

HM_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// An odd number of cache lines that holds `floats`: a leading dimension whose rows spread over all
// sets of a cache.
HM_INLINE int64_t odd_lines(int64_t floats) { return ((floats + 15) / 16 * 16) | 16; }

HM_INLINE int64_t batch_offset(const int64_t (&stride)[2], int64_t outer, int64_t inner) {
  return outer * stride[0] + inner * stride[1];
}

HM_INLINE const float* floats(const void* x) { return static_cast<const float*>(x); }

// The steps of the epilogue: those that the register kernels do, and whether there are others.
struct RegisterFinish {
  bool scale, bias, relu, gate, rest;
};

// dst[i * dst_stride + j] = src[i * src_stride + j] for `rows` rows of `n` floats.
void copy_rows(const float* src, int64_t src_stride, float* dst, int64_t dst_stride, int64_t rows,
               int64_t n);

// One panel of B: dst[k * vectors * width + n] = src[k * row + n * col] for K rows and `columns`
// columns; the other columns up to vectors * width are zero.
void copy_panel(const float* src, int64_t row, int64_t col, int64_t K, int64_t columns,
                int64_t vectors, float* dst);

// The steps of MatmulEpilogue after scale and bias, in place on rows x columns of c, with the
// elements of residual and grad_of from `offset` on, whose rows are `row` apart. skip_activation:
// it has been applied already.
void apply_epilogue(const MatmulEpilogue& e, int64_t offset, int64_t row, float* c, int64_t c_row,
                    int64_t rows, int64_t columns, bool skip_activation);

}  // namespace handmill::HM_ISA
