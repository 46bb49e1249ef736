// Cuts one bfloat16 matrix product into blocks. What changes bits (the slices) depends on the shape
// alone, the rest also on the instruction set level; nothing on the number of threads.
#pragma once

#include "core/cpu.h"
#include "kernels/matmul/args_bf16.h"

namespace handmill {

struct Bf16Plan {
  int64_t blocks = 0;         // of matmul_bf16; 0: nothing to do
  int64_t scratch_bytes = 0;  // of every thread
  int64_t packed_bytes = 0;   // 0: blocks copy what they need of B
  PackBf16Args pack{};
  int64_t pack_blocks = 0;
  int64_t partial_bytes = 0;  // 0: one slice
  CombineBf16Args combine{};
  int64_t combine_blocks = 0, combine_scratch_bytes = 0;
};

/// Fills in how `args` is computed, and what goes before and after. The caller has filled M, N, K,
/// batch, c_batch, c_dtype, the operands without their data, and the epilogue without its pointers.
/// constant_b: B stays the same between runs, so that it may be packed once.
Bf16Plan plan_matmul_bf16(MatmulBf16Args& args, Isa isa, bool constant_b);

}  // namespace handmill
