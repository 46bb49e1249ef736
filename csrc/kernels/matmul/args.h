// Arguments of the matmul family. Plain aggregates: every pointer is resolved, sizes and strides
// count elements. Filled by core/lower/matmul_plan.
#pragma once

#include <cstdint>

#include "kernels/optimizer/args.h"

namespace handmill {

/// Activations that the epilogue applies. alpha is MatmulEpilogue::alpha.
enum class Activation : int32_t {
  kNone,
  kRelu,
  kRelu6,
  kLeakyRelu,  // x > 0 ? x : alpha * x
  kElu,        // x > 0 ? x : alpha * (exp(x) - 1)
  kSelu,
  kSigmoid,
  kHardSigmoid,  // relu6(x + 3) / 6
  kTanh,
  kSoftplus,
  kSoftsign,
  kSilu,      // x * sigmoid(x)
  kHardSilu,  // x * relu6(x + 3) / 6
  kGelu,      // x * (1 + erf(x / sqrt(2))) / 2
  kGeluTanh,
  kExp,
  kSquare,
};

/// Derivatives that the epilogue multiplies by. u is the operand MatmulEpilogue::grad_of: the
/// output y = act(x) of the activation or its input x, as written.
enum class ActivationGrad : int32_t {
  kNone,
  kMultiply,     // u
  kRelu,         // y > 0
  kRelu6,        // 0 < y < 6
  kLeakyRelu,    // y > 0 ? 1 : alpha
  kElu,          // y > 0 ? 1 : y + alpha
  kSelu,         // y > 0 ? scale : y + scale * alpha of selu
  kSigmoid,      // y (1 - y)
  kHardSigmoid,  // 0 < y < 1 ? 1/6 : 0
  kTanh,         // 1 - y^2
  kSoftplus,     // 1 - exp(-y)
  kSoftsign,     // (1 - |y|)^2
  kExp,          // y
  kSilu,         // of x
  kGelu,         // of x
  kGeluTanh,     // of x
};

/// What happens to each sum s = (A B)[m, n], in this order:
///   v = s (+ c when accumulate) + bias[n] + residual[m, n];  v = act(v);  c = v * grad(grad_of[m,
///   n])
/// Null pointers leave their step out. residual and grad_of may be c itself, row for row.
struct MatmulEpilogue {
  const float* bias;      // (N,)
  const float* residual;  // (M, N)
  const float* grad_of;   // (M, N)
  int64_t residual_row, grad_row;
  int64_t residual_batch[2], grad_batch[2];
  Activation activation;
  ActivationGrad grad;
  float alpha;
  bool accumulate;
};

/// How A is read. Rows: a_col == 1. Columns: a_row == 1. The copies go through scratch, one cache
/// block at a time: for leading dimensions that alias in the L1 cache, and for general strides
/// (kCopyRows only).
enum class MatmulALayout : int32_t { kRows, kColumns, kCopyRows, kCopyColumns };

/// How B is read. Rows: in place, b_col == 1. Packed: panels written by pack_b (b_row and b_col
/// are not used). Copy: any strides; a block copies its panels into scratch, or finds them there
/// when the block before it in the same call had the same ones. Transposed: in place, b_row == 1
/// and a_col == 1, by dot products.
enum class MatmulBLayout : int32_t { kRows, kPacked, kCopy, kTransposed };

/// C[b0, b1, m, n] = epilogue(sum_k A[m, k] B[k, n]), A[m, k] is a[m * a_row + k * a_col], B[k, n]
/// is b[k * b_row + n * b_col]. Batch strides may be 0 (broadcast),
/// those of c not. A and B may overlap each other, never C.
///
/// Tiles: M is cut into ceil(M / tile_rows) row tiles, N into ceil(vectors / panel_vectors) panels
/// of whole vectors, K into its chunks; all cuts as even as possible. Block
/// ((batch * slices + slice) * blocks_n + j) * blocks_m + i computes row tiles [i], panels [j] and
/// chunks [slice] of an even partition: rows fastest, so that a run of blocks shares its part of B.
/// With an update, C is the gradient of a parameter (M, N), which is updated instead of written:
/// for one chunk, one slice, no batch axes and no epilogue, with c_row == N, B not
/// transposed and not by_rows_of_b: that is one row, M == 1, as sums over long rows of B. With
/// slices > 1 slice s writes its sum to partial + (s * batch + b) * M * N and
/// matmul_combine finishes.
struct MatmulArgs {
  const float* a;
  const float* b;
  float* c;
  float* partial;
  MatmulEpilogue epilogue;
  UpdateArgs update;
  int64_t M, N, K;
  int64_t chunks;  // of K, 1 or more
  int64_t a_row, a_col, b_row, b_col, c_row;
  int64_t a_batch[2], b_batch[2], c_batch[2];
  int64_t batch[2];
  int64_t blocks_m, blocks_n, slices;
  int64_t b_scratch_floats;  // room for the copied panels of B, before those of A
  MatmulALayout a_layout;
  MatmulBLayout b_layout;
  int32_t tile_rows, panel_vectors;
  int32_t rows_ahead;       // of B, that the first row tile of a panel fetches while it copies them
  bool fetches_in_place;    // or reads them in place
  bool fetches_next_panel;  // of a packed B
  bool by_rows_of_b;
};

/// Panels of B for MatmulBLayout::kPacked: panel p of vectors [v0, v1) starts at K * v0 * width and
/// holds K rows of (v1 - v0) * width floats; columns past N are zero. One batch element takes
/// K * vectors * width floats. Block (batch * blocks_n + j) * blocks_k + i packs panels [j] and
/// rows [i] of an even partition.
struct MatmulPackArgs {
  const float* b;
  float* packed;
  int64_t K, N;
  int64_t b_row, b_col;
  int64_t b_batch[2];
  int64_t packed_batch[2];
  int64_t batch[2];
  int64_t blocks_n, blocks_k;
  int32_t panel_vectors;
};

/// C = epilogue(sum over slices of partial[slice], in order of the slices). Block
/// (batch * blocks_m + i) * blocks_n + j finishes rows [i] and vectors of columns [j].
struct MatmulCombineArgs {
  const float* partial;
  float* c;
  MatmulEpilogue epilogue;
  int64_t M, N, slices;
  int64_t c_row;
  int64_t c_batch[2];
  int64_t batch[2];
  int64_t blocks_m, blocks_n;
};

}  // namespace handmill
