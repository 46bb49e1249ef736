// Arguments of pooling over images with channels last. Plain aggregates: sizes and strides count
// elements.
#pragma once

#include <cstdint>

namespace handmill {

/// One spatial axis: the window at output position t covers the positions t * stride - before + k,
/// k in [0, window), of which those beyond the input hold nothing.
struct PoolAxis {
  int64_t input, output, window, stride, before;
};

/// y[n, t, c] = maximum, or mean, of x over the window at t. A block is rows_per_block rows of
/// outputs, counted over all images.
struct PoolArgs {
  PoolAxis axis[2];  // down, across; one row stands for a line
  const float* x;
  float* y;
  int64_t images, channels;
  int64_t rows_per_block;
};

/// Maximum: dx = dy where the element that gave the maximum lies, else 0, x being the input; with
/// gated also 0 where x <= 0: the gradient of a relu before. Block (n * channel_blocks + c)
/// computes one image, channels [c] of channels_per_block each.
struct MaxPoolGradArgs {
  PoolAxis axis[2];
  const float* x;
  const float* dy;
  float* dx;
  int64_t images, channels;
  int64_t channel_blocks, channels_per_block;
  bool gated;
};

/// Mean: dx = the sum of dy over the windows that hold the element, each divided by its number of
/// elements. A block is rows_per_block rows of dx, counted over all images.
struct AveragePoolGradArgs {
  PoolAxis axis[2];
  const float* dy;
  float* dx;
  int64_t images, channels;
  int64_t rows_per_block;
};

}  // namespace handmill
