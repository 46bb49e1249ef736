// What every kernel file shares: blocks, dtype codes, guards.
#pragma once

#include <cstdint>

#include "kernels/range.h"

namespace handmill {

// The codes are the positions in handmill.ir.shapes.DTYPES.
enum class Dtype : int32_t { float32, float64, bfloat16, int8, uint8, int32, int64, bool_ };

// What a guard finds: the first position that it refuses, -1 if none, and what stands there.
struct GuardResult {
  int64_t index;
  double value;
};

// A kernel with the type of its arguments erased. `scratch` is memory of the calling thread.
using KernelFunction = void (*)(const void* args, Range blocks, void* scratch);

}  // namespace handmill
