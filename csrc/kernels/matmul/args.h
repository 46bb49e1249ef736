// Arguments of the matmul family, the same for every type of numbers. Plain aggregates: every
// pointer is resolved, sizes and strides count elements. Filled by core/lower/matmul/plan.
#pragma once

#include <cstdint>

#include "kernels/optimizer/args.h"
#include "kernels/types.h"

namespace handmill {

/// Activations that the epilogue applies.
enum class Activation : int32_t {
  none,
#define HM_ACTIVATION(name) name,
#include "kernels/matmul/epilogues.def"
};

/// Derivatives that the epilogue multiplies by, of the operand MatmulEpilogue::grad_of.
enum class ActivationGrad : int32_t {
  none,
#define HM_ACTIVATION_GRAD(name) name,
#include "kernels/matmul/epilogues.def"
};

/// What happens to each sum s = (A B)[m, n], in this order:
///   v = s scale[n] + bias[n] + residual[m, n];  v = act(v);  c = v * grad(grad_of[m, n])
/// Null pointers leave their step out. residual and grad_of may be c itself, row for row. Products
/// of float32 have float32 operands here, others also bfloat16 ones, which are widened.
struct MatmulEpilogue {
  const void* scale;     // (N,)
  const void* bias;      // (N,)
  const void* residual;  // laid out like C
  const void* grad_of;   // laid out like C
  Dtype scale_dtype, bias_dtype, residual_dtype, grad_dtype;
  Activation activation;
  ActivationGrad grad;
};

/// A matrix, or a stack of them with up to two axes: element (i, j) at row * i + col * j. Batch
/// strides may be 0 (broadcast).
struct MatmulOperand {
  const void* data;
  int64_t row, col;
  int64_t batch[2];
  Dtype dtype;
};

/// How A is read. Rows: col == 1. Columns: row == 1. The copies go through scratch, one cache block
/// at a time: of float32 for leading dimensions that alias in the L1 cache and (kCopyRows only) for
/// general strides, of bfloat16 as pairs along K, [m][K / 2][2] or [K / 2][m][2].
enum class MatmulALayout : int32_t { kRows, kColumns, kCopyRows, kCopyColumns };

/// How B is read. Rows: in place, col == 1. Packed: panels written by pack_b or pack_b_bf16 (row
/// and col are not used). Copy: any strides; a block copies its panels into scratch, or finds them
/// there when the block before it in the same call had the same ones. Transposed: in place,
/// row == 1 and A's col == 1, by dot products.
enum class MatmulBLayout : int32_t { kRows, kPacked, kCopy, kTransposed };

/// C[b0, b1, m, n] = epilogue(sum_k A[m, k] B[k, n]). Batch strides of c are not 0. A and B may
/// overlap each other, never C.
///
/// Tiles: M is cut into ceil(M / tile_rows) row tiles, N into ceil(vectors / panel_vectors) panels
/// of whole vectors, K into its chunks (of whole pairs where it is multiplied in pairs); all cuts
/// as even as possible. Block ((batch * slices + slice) * blocks_n + j) * blocks_m + i computes row
/// tiles [i], panels [j] and chunks [slice] of an even partition: rows fastest, so that a run of
/// blocks shares its part of B. With slices > 1 slice s writes its sum to
/// partial + (s * batch + b) * M * N and the combining kernel finishes.
///
/// matmul: float32. With an update, C is the gradient of a parameter (M, N), which is updated
/// instead of written: for one chunk, one slice, no batch axes and no epilogue, with c_row == N, B
/// not transposed and not by_rows_of_b: that is one row, M == 1, as sums over long rows of B.
///
/// matmul_bf16: A, B, C float32 or bfloat16, the former rounded when it is copied, sums in float32;
/// A kRows (an even K without gaps) or copied, B packed or copied; c_row == N; one chunk a slice.
/// The sum of one element is one chain in pairs: c = a[2j+1] b[2j+1] + c, then c = a[2j] b[2j] + c,
/// each rounded once, inputs below the normal range taken as zero and results below it flushed:
/// vdpbf16ps. So its bits depend on K and the slices only, not on the tiles, layouts or level.
struct MatmulArgs {
  MatmulOperand a, b;
  void* c;
  float* partial;
  MatmulEpilogue epilogue;
  UpdateArgs update;
  int64_t M, N, K;
  int64_t chunks;  // of K, 1 or more
  int64_t c_row;
  int64_t c_batch[2];
  int64_t batch[2];
  int64_t blocks_m, blocks_n, slices;
  // Bytes of scratch: copied panels of B, then rows of A, then twice the sums of a panel
  // (matmul_bf16: of another dtype than c, and widened operands of the epilogue).
  int64_t b_scratch, a_scratch, c_scratch;
  MatmulALayout a_layout;
  MatmulBLayout b_layout;
  Dtype c_dtype;
  int32_t tile_rows, panel_vectors;
  int32_t rows_ahead;       // of B, that the first row tile of a panel fetches while it copies them
  bool fetches_in_place;    // or reads them in place
  bool fetches_next_panel;  // of a packed B
  bool b_may_be_sparse;     // packed by MatmulPackArgs::finds_zeros
  bool by_rows_of_b;
};

/// Panels of B for MatmulBLayout::kPacked, in words: a float32, or the pair (B[2j, n], B[2j+1, n])
/// of bfloat16. Panel p of vectors [v0, v1) starts at word G * v0 * width and holds G rows of
/// (v1 - v0) * width words, G = K or ceil(K / 2); what lies past K and N is zero. One batch element
/// takes G * vectors * width words. Block (batch * blocks_n + j) * blocks_k + i packs panels [j]
/// and rows [i] of an even partition.
///
/// With run > 0, of float32: rows of B come in runs of so many, run_step from one to the next.
///
/// With finds_zeros, of float32: a panel may be sparse, which an int32 says behind the words, one
/// for each panel (sparse_flag_words of them, see kernels/matmul/sparse.h); blocks_k == 1.
struct MatmulPackArgs {
  MatmulOperand b;
  void* packed;
  int64_t packed_batch[2];  // words
  int64_t batch[2];
  int64_t K, N;
  int64_t blocks_n, blocks_k;
  int64_t run, run_step;
  int64_t chunks;  // of K, as the product has them
  int32_t panel_vectors;
  bool finds_zeros;
};

/// Words of the flags of so many panels: whole lines of cache.
inline int64_t sparse_flag_words(int64_t panels) { return (panels + 15) / 16 * 16; }

/// Sparse panels name rows of B by two bytes; chunks of other sizes are not computed.
inline constexpr int64_t kMostSparseK = 65536, kLeastSparseK = 64, kMostSparseChunk = 384;

/// C = epilogue(sum over slices of partial[slice], in order of the slices). Block
/// (batch * blocks_m + i) * blocks_n + j finishes rows [i] and vectors of columns [j].
struct MatmulCombineArgs {
  const float* partial;
  void* c;
  MatmulEpilogue epilogue;
  int64_t M, N, slices;
  int64_t c_row;
  int64_t c_batch[2];
  int64_t batch[2];
  int64_t blocks_m, blocks_n;
  Dtype c_dtype;
};

}  // namespace handmill
