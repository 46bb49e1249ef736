// Cuts one matrix product, of any type of numbers, into blocks. Cuts of K, which decide bits,
// depend on the shape and the instruction set level only; those of rows and columns also on the
// tuning and, for float32, on the number of threads at that time.
#pragma once

#include <cstdint>

#include "core/lower/matmul/numbers.h"
#include "core/tuning.h"
#include "kernels/matmul/args.h"

namespace handmill {

/// What to compute. In args, the caller fills M, N, K, batch, c_row, c_batch, c_dtype, A and B, and
/// the epilogue, without the pointers. The planner fills the rest.
struct MatmulProblem {
  const MatmulNumbers& numbers;
  MatmulArgs args{};
  Isa isa = Isa::portable;
  MatmulTuning tuning{};
  /// B does not change between runs, so that it may be packed once.
  bool constant_b = false;
  /// C is a gradient: what is written are a parameter and its slots.
  bool updates = false;
  /// Bits of a row of C must not depend on how many rows there are (Program::rows_alone): K is not
  /// cut by M, and no number of rows is summed in another order.
  bool rows_alone = false;
};

/// Launches run in order, each after the one before has finished: packing B where it is packed
/// (MatmulBLayout::kPacked), the product, combining its slices where there are several. Blocks of a
/// launch may run in any order, on any threads.
struct MatmulPlan {
  MatmulArgs matmul;
  MatmulPackArgs pack;
  MatmulCombineArgs combine;
  int64_t pack_blocks = 0, blocks = 0, combine_blocks = 0;  // blocks == 0: nothing to do
  int64_t scratch_bytes = 0, combine_scratch_bytes = 0;     // of every thread
  int64_t packed_bytes = 0, partial_bytes = 0;              // from one launch to the next
};

MatmulPlan plan_matmul(const MatmulProblem& problem);

}  // namespace handmill
