// Arguments of the kernels that measure the machine.
#pragma once

#include <cstdint>

namespace handmill {

// Each block: `flops` operations (a multiple of 384) in independent chains of multiply-adds;
// sink[block] takes the sum.
struct PeakArgs {
  float* sink;
  int64_t flops;
  float factor, addend;
};

// Block i goes through [i * per_block, (i + 1) * per_block) of `size` floats: y = x * factor.
// No y: reads x alone, and sink[block] takes the sum.
struct StreamArgs {
  const float* x;
  float *y, *sink;
  int64_t size, per_block;
  float factor;
};

constexpr int kMaxStreams = 3;

// Block i goes through [i * per_block, (i + 1) * per_block) of `size` floats: x[j] = x[j] + y for
// the first `count` arrays, 1 to kMaxStreams.
struct UpdateStreamsArgs {
  const float* y;
  float* x[kMaxStreams];
  int64_t size, per_block;
  int32_t count;
};

}  // namespace handmill
