// Sizes that the recurrent kernels and their lowering rules agree on.
#pragma once

#include <cstdint>

namespace handmill {

/// Rows of a register tile: with the vectors of four gates, 16 accumulators of 32 registers, or 12
/// of 16.
constexpr int recurrent_tile_rows(int width) { return width == 16 ? 4 : 3; }

/// Rows of a block, at most.
inline constexpr int kMostRecurrentRows = 32;

}  // namespace handmill
