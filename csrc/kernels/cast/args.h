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

// Rows of coalition after coalition, each with every background row: entry e of y[i] is the row's
// where player[e] is in the coalition, else the background's. Coalition s has the players whose
// `members[s, player]` is not 0; without members, those that are bits of s. Player -1 is in none.
struct ComposeRowsArgs {
  const void* background;  // (background_rows, row_size)
  const void* row;
  const int32_t* player;   // of each entry
  const uint8_t* members;  // (coalitions, players)
  void* y;
  int64_t position, rows, row_size, rows_per_block, background_rows, players, item_bytes;
};

}  // namespace handmill
