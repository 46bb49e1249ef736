// Arguments of reductions: reduce.cpp for float32, lanes.cpp for the other dtypes. Plain
// aggregates: sizes and strides count elements. A block is a run of `..._per_block` items, the last
// one shorter.
#pragma once

#include <cstdint>

#include "kernels/optimizer/args.h"
#include "kernels/types.h"

namespace handmill {

enum class ReduceKind : int32_t { kSum, kSumOfSquares, kMax, kMin, kProd };

// x: (outer, length), y: (outer, slices, N). Each group of `length` elements is a matrix of N
// columns whose last row may be cut short. Slice s is [s * slice_length, (s + 1) * slice_length) of
// it; slice_length is a multiple of N. y = reduction over the rows of the slice, divided by
// `divisor` (which 1 leaves out).
//   reduce_rows (N == 1): a block is a run of slices_per_block of the outer * slices slices.
//   reduce_columns: block ((o * slices + s) * column_blocks + c) does columns [c] of
//   columns_per_block each.
//   reduce_rows_lanes, reduce_columns_lanes: the same of float64, int32 and int64, and maxima and
//   minima of int8, uint8 and bool.
struct ReduceArgs {
  const void* x;
  void* y;
  int64_t outer, length, N, slices, slice_length;
  int64_t slices_per_block;
  int64_t column_blocks, columns_per_block;
  ReduceKind kind;
  Dtype dtype;
  double divisor;
};

// Updates a parameter of N elements by the sums, which go through N floats of scratch; reduce.y is
// not used, outer and slices are 1.
struct ReduceUpdateArgs {
  ReduceArgs reduce;
  UpdateArgs update;
};

// x: rows of C columns, `length` elements in all, seen as rows of N (a multiple of C) whose last
// one may be cut short. Slice s is [s * slice_length, (s + 1) * slice_length), slice_length a
// multiple of N; means[s, n] and squares[s, n] are the mean of what column n of it holds and the
// sum of the squares of the distances from that mean. A block is a slice. Where a slice has no row
// for a column, nothing is written.
struct ColumnMomentsArgs {
  const float* x;
  float *means, *squares;
  int64_t length, N, slice_length;
};

// mean[c] and variance[c] of all parts n = c (mod C) of all slices; NaN of no rows.
struct JoinMomentsArgs {
  ColumnMomentsArgs parts;
  float *mean, *variance;
  int64_t C, columns_per_block;
};

// y[o, i] = first k where x[o, k, i] is largest (smallest), NaN counting as such.
// argreduce_lanes: of any dtype but float32 and bfloat16.
struct ArgReduceArgs {
  const void* x;
  int32_t* y;
  int64_t outer, K, inner;
  int64_t per_block;  // outputs; inner > 1: columns of one o, column_blocks of them
  int64_t column_blocks;
  Dtype dtype;
  bool is_min;
};

}  // namespace handmill
