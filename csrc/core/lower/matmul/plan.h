// Lowers one matrix product to steps over blocks. Depends on the shape and the instruction set
// level only, never on the number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tuning.h"
#include "kernels/matmul/args.h"
#include "simd/tile.h"

namespace handmill {

/// What to compute. In args, the caller fills M, N, batch, c_row, c_batch, the K, strides and batch
/// strides of A and B, and the epilogue (null pointers mean "absent": mark an
/// operand that is bound later with any non-null pointer). The planner fills the rest.
struct MatmulProblem {
  MatmulArgs args{};
  MatmulTile tile = kMatmulTilePortable;
  MatmulTuning tuning{};
  /// B does not change between runs, so that it may be packed once.
  bool constant_b = false;
};

enum class MatmulKernel { kPackB, kMatmul, kCombine };

struct MatmulStep {
  MatmulKernel kernel;
  int64_t blocks;         // may run in any order, on any threads
  int64_t scratch_bytes;  // of every thread
};

/// Steps run in order, each after the one before has finished.
struct MatmulPlan {
  MatmulArgs matmul;
  MatmulPackArgs pack;
  MatmulCombineArgs combine;
  std::vector<MatmulStep> steps;
  /// Memory shared by all threads, alive from the first step to the last: packed operands, partial
  /// sums. packed and partial are offsets into it in bytes, -1 where there is none. Constants
  /// that are packed once live in memory of their own, constant_bytes long.
  int64_t workspace_bytes = 0;
  int64_t packed_offset = -1;
  int64_t partial_offset = -1;
  int64_t constant_bytes = 0;
};

MatmulPlan plan_matmul(const MatmulProblem& problem);

}  // namespace handmill
