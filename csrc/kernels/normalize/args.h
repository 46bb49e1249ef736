// Arguments of normalizations of M rows of N numbers each. Plain aggregates: sizes count elements.
// A block is a run of rows_per_block rows, the last one shorter.
#pragma once

#include <cstdint>

namespace handmill {

/// y[m, n] = (x[m, n] - mean[m]) inverse[m] scale[n] + offset[n],
/// inverse[m] = 1 / sqrt(mean of (x[m, :] - mean[m])^2 + epsilon).
/// mean: null where 0 stands for it (root mean square); offset: null for none.
struct NormalizeRowsArgs {
  const float *x, *scale, *offset;
  float *y, *mean, *inverse;
  int64_t M, N, rows_per_block;
  float epsilon;
};

/// The gradients: dx, to which residual is added unless it is null, and of each block b the sums
/// over its rows, scale_sums[b, n] and offset_sums[b, n]. mean, offset_sums: null as above.
struct NormalizeRowsGradArgs {
  const float *dy, *x, *scale, *mean, *inverse, *residual;
  float *dx, *scale_sums, *offset_sums;
  int64_t M, N, rows_per_block;
};

}  // namespace handmill
