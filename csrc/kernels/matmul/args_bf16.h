// Arguments of the bfloat16 matmul family. Plain aggregates: every pointer is resolved, sizes and
// strides count elements of their operand. Filled by core/lower/matmul_bf16_plan.
#pragma once

#include <cstdint>

#include "kernels/matmul/args.h"
#include "kernels/types.h"

namespace handmill {

/// A float32 or bfloat16 operand; the former is rounded to bfloat16 when it is packed.
struct Bf16Operand {
  const void* data;
  int64_t row, col;  // strides of the matrix as the product sees it
  int64_t batch[2];
  Dtype dtype;
};

/// What happens to each sum, in float32 and in this order: + bias[n], + residual[m, n], activation,
/// * grad(grad_of[m, n]), rounding to the result's dtype. Null pointers leave their step out; the
/// operands are float32 or bfloat16, (N,) or laid out like C.
struct Bf16Epilogue {
  const void* bias;
  const void* residual;
  const void* grad_of;
  Dtype bias_dtype, residual_dtype, grad_dtype;
  Activation activation;
  ActivationGrad grad;
  float alpha;
};

/// How A is read. In place: bfloat16, rows of an even K without gaps. Rows, columns: copied into
/// scratch as pairs along K, [m][K / 2][2] or [K / 2][m][2].
enum class Bf16ALayout : int32_t { kInPlace, kRows, kColumns };

/// C[b0, b1, m, n] = epilogue(sum_k A[m, k] B[k, n]), C float32 or bfloat16.
///
/// The sum of one element is one chain in pairs: c = a[2j+1] b[2j+1] + c, then c = a[2j] b[2j] + c,
/// each rounded once, inputs below the normal range taken as zero and results below it flushed:
/// vdpbf16ps. So its bits depend on K and the slices only, not on the tiles, layouts or level.
///
/// M is cut into ceil(M / tile_rows) row tiles, N into ceil(vectors / panel_vectors) panels, K into
/// `slices` runs of whole pairs; all cuts as even as possible. Block
/// ((batch * slices + slice) * blocks_n + j) * blocks_m + i computes row tiles [i], panels [j] of
/// an even partition. With slices > 1 slice s writes its sums to partial + (s * batch + b) * M * N
/// and matmul_bf16_combine finishes.
struct MatmulBf16Args {
  Bf16Operand a, b;
  const uint16_t* packed;  // B as pack_b_bf16 wrote it; null: blocks copy what they need of b
  int64_t packed_batch[2];
  void* c;
  float* partial;
  Bf16Epilogue epilogue;
  int64_t M, N, K;
  int64_t c_batch[2];  // the rows of C have no gaps
  int64_t batch[2];
  int64_t blocks_m, blocks_n, slices;
  int64_t a_scratch, b_scratch, c_scratch;  // in halves, halves and floats; then as many floats
  int32_t tile_rows, panel_vectors;
  Bf16ALayout a_layout;
  Dtype c_dtype;
};

/// Panel p of vectors [v0, v1) starts at pair K2 * v0 * width and holds K2 = ceil(K / 2) rows of
/// (v1 - v0) * width pairs (B[2j, n], B[2j+1, n]); what lies past K and N is zero. Block
/// (batch * blocks_n + j) * blocks_k + i packs panels [j] and pairs [i] of an even partition.
struct PackBf16Args {
  Bf16Operand b;
  uint16_t* packed;
  int64_t packed_batch[2];
  int64_t batch[2];
  int64_t K, N;
  int64_t blocks_n, blocks_k;
  int32_t panel_vectors;
};

/// C = epilogue(sum over slices of partial[slice], in order). Block batch * blocks_m + i finishes
/// rows [i] of an even partition.
struct CombineBf16Args {
  const float* partial;
  void* c;
  Bf16Epilogue epilogue;
  int64_t M, N, slices;
  int64_t c_batch[2];
  int64_t batch[2];
  int64_t blocks_m;
  Dtype c_dtype;
};

}  // namespace handmill
