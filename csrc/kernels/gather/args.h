// Arguments of reading and writing by indices. Plain aggregates: sizes and strides count elements.
// A block is a run of `..._per_block` items, the last one shorter.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace handmill {

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

// y[o, k, i] = x[o, indices[o, k, i], i], with indices and filling as of TakeArgs.
struct TakeAlongArgs {
  const void* x;
  const void* indices;
  void* y;
  int64_t rows, count, inner, size;  // of x's axis, of y's axis, of what follows, of y
  int64_t per_block;                 // elements of y
  int32_t item_bytes;                // 1, 2, 4 or 8
  Dtype index_type;
  uint8_t fill;
};

// y[o, r, i] = sum of dy[o, k, i] over the k with indices[o, k, i] == r, in the order of k.
// Negative indices count from the end. Indices out of range are left out.
struct AddAlongArgs {
  const float* dy;
  const void* indices;
  float* y;
  int64_t outer, rows, count, inner;
  int64_t per_block;  // outer ones
  Dtype index_type;
};

// y[indices[k]] = x[k], rows of `row_bytes`; of equal indices the last one counts. Indices out of
// range are left out; the other rows of y stay as they are.
struct PutRowsArgs {
  const void* x;
  const void* indices;
  void* y;
  int64_t rows, row_bytes, num_indices, rows_per_block;
  Dtype index_type;
};

// y[k, d] = (indices[k] == d)
struct OneHotArgs {
  const void* indices;
  float* y;
  int64_t size, depth, per_block;
  Dtype index_type;
};

}  // namespace handmill
