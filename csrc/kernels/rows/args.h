// Arguments of what a table of rows needs when a step uses few of them: the gradients of equal rows
// summed, and an optimizer's update of those rows alone. Plain aggregates: sizes count elements.
#pragma once

#include <cstdint>

#include "kernels/optimizer/args.h"
#include "kernels/types.h"

namespace handmill {

// order: the positions k of `indices`, by the row that they name and then by k; first[u] and
// first[u + 1]: where those of the u-th row begin and end; at[u]: which row that is, -1 for the u
// that are left over. Negative indices count from the end, if from_end. Indices out of range are
// left out. One block.
struct SortRowsArgs {
  const void* indices;
  uint64_t *keys, *other_keys;  // num_indices each
  int32_t *order, *first;       // num_indices, one more
  int64_t* at;
  int64_t rows, num_indices;
  Dtype index_type;
  bool from_end;
};

// y[u] = sum of dy[order[i]] for i from first[u] to first[u + 1], in this order; rows of N floats,
// zeros for the u that are left over.
struct SumRowsArgs {
  const float* dy;
  const int32_t *order, *first;
  const int64_t* at;
  float* y;
  int64_t N, num_indices, blocks;
};

// Row at[u] of what the update writes, by the gradient g[u], for each u; different u have different
// rows. An at[u] that is no row is left out.
struct UpdateRowsArgs {
  UpdateArgs update;
  const float* g;
  const int64_t* at;
  const float* arrays[3];  // what the update reads and writes, num_arrays of them
  int64_t N, rows, num_updates, blocks;
  int32_t num_arrays;
};

// All rows of what the update writes: row at[u] by the gradient g[u], those that are not in `at` by
// zeros. The rows in `at` ascend, up to a first -1.
struct UpdateTableArgs {
  UpdateArgs update;
  const float* g;
  const int64_t* at;
  int64_t N, rows, num_updates;
  int64_t rows_per_block, rows_per_piece;  // a piece of gradients lies in the scratch memory
};

}  // namespace handmill
