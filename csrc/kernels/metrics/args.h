// Arguments of the sums and counts of metrics. Plain aggregates: sizes and strides count elements.
// A block is a run of `..._per_block` items, the last one shorter.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace handmill {

struct SparseMatchArgs {
  const void* labels;
  const float* predictions;  // (M, N)
  float* y;                  // (M)
  int64_t M, N, rows_per_block;
  Dtype label_type;
};

struct DenseMatchArgs {
  const float *targets, *predictions;  // (M, N)
  float* y;                            // (M)
  int64_t M, N, rows_per_block;
};

struct AccumulateMeanArgs {
  const double *total, *count;  // one number each
  const float *values, *weights;
  double *total_out, *count_out;
  int64_t M, N;                    // values: (M, N)
  int64_t weight_row, weight_col;  // strides of weights, 0 where they are broadcast
};

}  // namespace handmill
