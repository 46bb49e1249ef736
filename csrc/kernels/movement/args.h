// Arguments of strided copies. Plain aggregates: sizes and strides count elements. A block is a run
// of `..._per_block` items, the last one shorter.
#pragma once

#include <cstdint>

namespace handmill {

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
