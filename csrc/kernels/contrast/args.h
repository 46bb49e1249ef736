// Arguments of the products of all rows of two matrices that are not kept. Plain aggregates: sizes
// count elements. A block is a run of rows_per_block rows of x, the last one shorter.
#pragma once

#include <cstdint>

namespace handmill {

/// s[i, j] = sum_d x[i, d] y[j, d] for N rows of x and M of y, without j == i if that is skipped.
/// y_panels: y turned, as pack_b writes it, in panels of at most panel_vectors vectors.
struct RowProducts {
  const float *x, *y_panels;
  int64_t N, M, D;
  int64_t rows_per_block;
  int32_t panel_vectors;
  bool skips_diagonal;
};

/// sums[i] = log sum_j exp(s[i, j]).
struct ProductLogSumExpArgs {
  RowProducts products;
  float* sums;
};

/// z[i, :] = sum_j w[i, j] y[j, :], w[i, j] = exp(s[i, j] - row_shift[i]) row_factor[i]
///   + exp(s[i, j] - column_shift[j]) column_factor[j]; null: without that term.
struct ProductSoftmaxArgs {
  RowProducts products;
  const float* y;
  const float *row_factor, *row_shift, *column_factor, *column_shift;
  float* z;
};

}  // namespace handmill
