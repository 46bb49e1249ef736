// Arguments of the running sums. Plain aggregates.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace handmill {

struct CumsumArgs {
  const void* x;
  void* y;  // of the shape and dtype of x
  int64_t M, N, K;
  int64_t per_block;  // values of m a block
  Dtype dtype;        // float32, float64, int32, int64
  bool reverse;
};

}  // namespace handmill
