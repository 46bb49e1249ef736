// Arguments of conversions and of what gathers rows of a data set. Plain aggregates: sizes and
// strides count elements. A block is a run of `..._per_block` items, the last one shorter.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace handmill {

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

}  // namespace handmill
