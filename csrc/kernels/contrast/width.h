// How wide a group of columns is, for the kernels and the rule that makes room for it.
#pragma once

#include <cstdint>

#include "simd/tile.h"

namespace handmill {

/// Rows of a block: a group of them is 24 KB, which stays in L1 beside a panel in L2.
inline constexpr int64_t kMostContrastRows = 48;

/// Panels of a group: about 128 columns at every level.
constexpr int64_t contrast_panels(const MatmulTile& tile) {
  const int64_t panels = 128 / (tile.vectors * tile.width);
  return panels > 1 ? panels : 1;
}

}  // namespace handmill
