// Arguments of the kernels that are not matmul, elementwise or image work. Plain aggregates: sizes
// and strides count elements. A block is a run of `..._per_block` items, the last one shorter.
#pragma once

#include <cstdint>

#include "kernels/optimizer/args.h"
#include "kernels/types.h"

namespace handmill {

// ---- softmax.cpp and loss.cpp: M rows of N classes

struct SoftmaxArgs {
  const float* x;
  float* y;
  int64_t M, N, rows_per_block;
};

struct SoftmaxGradArgs {
  const float *dy, *y;
  float* dx;
  int64_t M, N, rows_per_block;
};

struct SparseCrossEntropyArgs {
  const float* logits;
  const void* labels;
  float *loss, *probabilities;
  int64_t M, N, rows_per_block;
  Dtype label_type;
};

struct SparseCrossEntropyGradArgs {
  const float *dloss, *probabilities;
  const void* labels;
  float* dlogits;
  int64_t M, N, rows_per_block;
  Dtype label_type;
};

struct CrossEntropyArgs {
  const float *logits, *targets;
  float *loss, *probabilities;
  int64_t M, N, rows_per_block;
};

struct CrossEntropyGradArgs {
  const float *dloss, *probabilities, *targets;
  float* dlogits;
  int64_t M, N, rows_per_block;
};

struct CheckLabelsArgs {
  const void* labels;
  GuardResult* found;
  int64_t size, num_classes;
  Dtype label_type;
};

// ---- metrics.cpp

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

// ---- cast.cpp

struct CastArgs {
  const void* x;
  void* y;
  int64_t size, per_block;
  Dtype from, to;
};

struct IncrementArgs {
  const int64_t* x;
  int64_t* y;
  int64_t size;
};

// y[i] = source[order[position + i]], rows of `row_size` elements; no order: source[position + i].
struct GatherRowsArgs {
  const void* source;
  const int64_t* order;
  void* y;
  int64_t position, rows, row_size, rows_per_block;
  Dtype from, to;
};

// ---- gather.cpp

// y[o, k] = x[o, indices[k]], items of `item_bytes`. Negative indices count from the end, if
// from_end. Where an index is out of range the item is filled with `fill` bytes (0xff: NaN).
struct TakeArgs {
  const void* x;
  const void* indices;
  void* y;
  int64_t outer, rows, num_indices, item_bytes;
  int64_t per_block;  // indices; a block lies within one o
  Dtype index_type;
  bool from_end;
  uint8_t fill;
};

// y[r] = sum of dy[k] over the k with indices[k] == r, in the order of k; rows of N floats.
// Negative indices count from the end, if from_end. Indices out of range are left out.
struct ScatterAddArgs {
  const float* dy;
  const void* indices;
  float* y;
  int64_t rows, N, num_indices, rows_per_block;
  Dtype index_type;
  bool from_end;
};

// y[k, d] = (indices[k] == d)
struct OneHotArgs {
  const void* indices;
  float* y;
  int64_t size, depth, per_block;
  Dtype index_type;
};

// ---- reduce: reduce.cpp for float32, lanes.cpp for the other dtypes

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

// ---- random.cpp. seed_state: (seed, call). Elements from 4 i on take the words of counter i.

struct RandomArgs {
  const int64_t* seed_state;
  float* y;
  int64_t size, per_block;  // per_block: a multiple of 128
};

// y = x * scale where the word is >= threshold, else 0; drop_all: 0 everywhere.
struct DropoutArgs {
  const float* x;
  const int64_t* seed_state;
  float* y;
  int64_t size, per_block;  // per_block: a multiple of 128
  uint32_t threshold;
  float scale;
  bool drop_all;
};

struct AdvanceSeedArgs {
  const int64_t* seed_state;
  int64_t* y;
};

// ---- movement.cpp

constexpr int kMaxCopyRank = 8;

// y[i...] = x[x_start + i...] for every index of `shape`, items of 1, 2, 4 or 8 bytes, no extent of
// zero.
//   tile_axis < 0: a block is a run of per_block items in row-major order.
//   tile_axis >= 0: a transpose, with x_stride[tile_axis] == 1 and y_stride[rank - 1] == 1. A block
//   is a run of per_block tiles of kTransposeTile items a side; tiles are counted along the last
//   axis first, then along tile_axis, then the other axes.
struct StridedCopyArgs {
  const void* x;
  void* y;
  int64_t shape[kMaxCopyRank];
  int64_t x_stride[kMaxCopyRank];
  int64_t y_stride[kMaxCopyRank];
  int64_t x_start;
  int64_t per_block;
  int32_t rank;  // at least 1
  int32_t tile_axis;
  int32_t item_bytes;
};

constexpr int kTransposeTile = 32;

}  // namespace handmill
