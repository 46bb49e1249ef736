// The part of an image that the windows of a block cover, and where its elements lie.
#pragma once

#include "kernels/convolution/taps.h"
#include "kernels/matmul/parts.h"

namespace handmill::HM_ISA {

/// Some images, or their copy with zeros around: `data` is the first image's element at the first
/// positions of both reaches.
struct Region {
  const float* data;
  int64_t image, row, pixel;  // strides
};

/// `channels` channels from `source` on, of images [first_image, ...): where they lie, or copied to
/// `scratch`, `copied_pixel` from one position to the next.
Region region_of(const ConvGeometry& shape, const float* source, int64_t channels,
                 int64_t first_image, int64_t images, Reach down, Reach across, float* scratch,
                 int64_t copied_pixel);

}  // namespace handmill::HM_ISA
