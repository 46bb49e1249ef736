// Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray, 2015, "Fast Algorithms for
// Convolutional Neural Networks"): 2x2 sums of 3x3 products each, y = A^T ((G g G^T) * (B^T d B))
// A, from 16 products of a transformed kernel and a transformed tile of 4x4 positions. All factors
// are 0, 1, -1 and 1/2. The gradient by g is its transpose: G^T ((A dy A^T) * (B^T d B)) G.
//
// Only d and dy lie in memory as images do; tiles of 2x2 targets are counted across, down, by
// images.
#pragma once

#include "kernels/convolution/args.h"
#include "kernels/matmul/parts.h"

namespace handmill::HM_ISA {

constexpr int kTilePoints = 16;  // of a transformed tile

/// Which tile a number means.
struct TilePlace {
  int64_t image, down, across;  // target position of its first sum
};

struct TileGrid {
  int64_t down, across;  // tiles of an image

  HM_INLINE explicit TileGrid(const ConvGeometry& shape)
      : down(ceil_div(shape.axis[0].target, 2)), across(ceil_div(shape.axis[1].target, 2)) {}
  HM_INLINE TilePlace at(int64_t tile) const {
    const int64_t row = tile / across;
    return {row / down, row % down * 2, tile % across * 2};
  }
  HM_INLINE void advance(TilePlace& place) const {
    place.across += 2;
    if (place.across < 2 * across) return;
    place.across = 0;
    place.down += 2;
    if (place.down < 2 * down) return;
    place.down = 0;
    ++place.image;
  }
};

/// to[f * point + d] = (B^T x B)[f] for the 4x4 positions x of `source` that the tile's windows
/// cover, channels [0, channels); zero beside the image. `zeros` holds as many zeros.
void transform_source(const ConvGeometry& shape, const float* source, const TilePlace& tile,
                      int64_t channels, const float* zeros, float* to, int64_t point);

/// to[f * point + o] = (A dy A^T)[f] for the 2x2 positions of `dy`, `filters` of them.
void transform_gradient(const ConvGeometry& shape, const float* dy, const TilePlace& tile,
                        int64_t filters, const float* zeros, float* to, int64_t point);

/// Whether x has a lane that is infinite or NaN, summed over vectors: 0 * x is NaN in such lanes.
HM_INLINE Vec no_number(Vec x, Vec before) { return fma(x, Vec::zero(), before); }

}  // namespace handmill::HM_ISA
