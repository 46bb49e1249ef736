// Updates of a parameter while its gradient comes out of the register tiles: the gradient never
// leaves the L1 cache, and the division and square root of one tile's update run while the
// multipliers work on the next tile.
#pragma once

#include "kernels/matmul/micro.h"
#include "kernels/optimizer/apply_update.h"

namespace handmill::HM_ISA {

// A tile of the gradient that is computed but not applied: rows of vectors * width floats.
struct PendingTile {
  const float* gradient;
  int64_t offset;      // of its first element in the parameter
  int64_t row_stride;  // of the parameter
  int64_t rows;        // 0: none
  int64_t vectors;
  int64_t last_lanes;  // of the last vector
};

void apply_tile(const UpdateArgs& update, const PendingTile& tile);

// Computes a tile of the gradient, which will lie at `offset` in the parameter, and applies the one
// before, whose vectors must be whole and at most as many as t.K. t.c may be its memory.
using UpdatingKernel = void (*)(const RegisterTile& t, int64_t offset, const UpdateArgs& update,
                                const PendingTile& before);

// Null where computing and applying one after the other is as fast.
UpdatingKernel updating_kernel(UpdateRule rule, int rows, int vectors, bool a_rows);

}  // namespace handmill::HM_ISA
