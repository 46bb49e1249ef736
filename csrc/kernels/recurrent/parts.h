// What the recurrent kernels share: register tiles, rows of a block, scratch.
#pragma once

#include "kernels/lanes.h"
#include "kernels/recurrent/args.h"
#include "kernels/recurrent/sizes.h"

namespace handmill::HM_ISA {

inline constexpr int kTileRows = recurrent_tile_rows(Vec::width);
inline constexpr int kMostTiles = (kMostRecurrentRows + kTileRows - 1) / kTileRows;

// Rows [begin, begin + rows) of the batch. Tiles take whole numbers of rows: those behind the last
// one repeat it, in scratch of their own, and write the same numbers to the same places.
struct RowBlock {
  int64_t begin, rows;
  HM_INLINE int64_t padded() const { return (rows + kTileRows - 1) / kTileRows * kTileRows; }
  HM_INLINE int64_t row(int64_t r) const { return begin + (r < rows ? r : rows - 1); }
};

HM_INLINE int64_t padded_units(int64_t U) { return (U + Vec::width - 1) / Vec::width * Vec::width; }

// Which rows of the batch count at a step.
HM_INLINE bool counts(const uint8_t* mask, int64_t T, int64_t row, int64_t t) {
  return mask == nullptr || mask[row * T + t] != 0;
}

}  // namespace handmill::HM_ISA
