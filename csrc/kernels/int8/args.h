// Arguments of the products of 8-bit integers. Filled by core/lower/int8.
#pragma once

#include <cstdint>

#include "kernels/matmul/args.h"
#include "kernels/recurrent/args.h"
#include "kernels/types.h"

namespace handmill {

/// Where the rows of the left matrix come from. Floats: float32 (M, K), each row quantized by its
/// largest magnitude to q in [-127, 127], with a step of its own. Bytes: uint8 (M, K), which stand
/// for q = byte - zero. Windows: bytes of images (B, H, W, C), row (b, i, j) being the taps of one
/// window; what lies beyond the image is `zero`.
enum class Int8Source : int32_t { kFloats, kBytes, kWindows };

struct Int8Windows {
  int64_t H, W, C;
  int64_t rows, columns;  // of windows
  int64_t taps[2], strides[2], dilations[2], before[2];
};

/// y = act(f32(sum_k q[m, k] w[k, n]) * (step[m] * factors[n]) + bias[n]), sums in int32, every
/// float32 operation rounded once. With a `format` (f, z), which ends in bytes:
/// round(clip(y * f, -z, 255 - z)) + z.
///
/// Block j * blocks_m + i computes rows [i] and panels [j] of even partitions; scratch holds the
/// quantized rows of one block. Nothing depends on how blocks are cut.
struct Int8ProductArgs {
  const void* x;
  const void* packed;
  const float* factors;  // (N,)
  const float* bias;     // (N,) or null
  const float* zero;     // of x, a whole number; null for floats
  const float* format;   // of bytes; null for float results
  void* y;
  int64_t M, N, K;
  int64_t blocks_m, blocks_n;
  Int8Windows windows;
  Int8Source source;
  Activation activation;  // none, relu, relu6
};

/// Panels of a matrix w of int8, element (k, n) at row * k + col * n. First the sums of all
/// columns, int32, whole vectors of them; then panels of int8_panel_vectors() vectors: for each
/// four rows, which 0 fills up, four bytes for each column. Block [p] packs panel p.
struct Int8PackArgs {
  const int8_t* w;
  void* packed;
  int64_t row, col;
  int64_t K, N;
};

/// Panels of a matrix of 4-bit numbers, two a byte along its rows, the first in the low half: (K,
/// N), or (N, K) `turned`. First the sums of all columns, int32, whole vectors of them; then panels
/// of int8_panel_vectors() vectors: for each eight rows four bytes for each column, whose low
/// halves are the first four rows, each number 8 more than it is. Rows are filled up to a multiple
/// of 16. Block [p] packs panel p.
struct Int4PackArgs {
  const int8_t* w;
  void* packed;
  int64_t K, N;
  bool turned;
};

/// One kernel a channel, or more: result channel n is of channel n / multiplier of x. What follows
/// the sums is that of a product. Block [i] computes rows of one image; scratch holds what of it
/// they read, with `zero` around.
struct Int8DepthwiseArgs {
  const uint8_t* x;
  const void* packed;
  const float* factors;  // (N,)
  const float* bias;     // (N,) or null
  const float* zero;
  const float* format;  // of bytes; null for float results
  void* y;
  int64_t N;  // channels of y
  int64_t multiplier;
  int64_t rows_per_block, row_blocks;  // of one image
  Int8Windows windows;
  Activation activation;  // none, relu, relu6
};

/// Kernels (rows, columns, N) of int8 as columns of taps. First the sums of all channels, int32,
/// whole vectors of them; then for each vector of channels and each column groups of four rows,
/// which 0 fills up, four bytes a channel. Block [v] packs a vector.
struct Int8DepthwisePackArgs {
  const int8_t* w;
  void* packed;
  int64_t taps[2];
  int64_t N;
};

/// The steps of a recurrent layer whose products with h are of bytes: each row of h is quantized at
/// each step by its largest magnitude. Gates are computed by float32 operations that are rounded
/// one by one. A block is some rows and all of their steps, as of RecurrentArgs.
struct Int8RecurrentArgs {
  const float* z;        // (B, T, G U): what the inputs add
  const void* packed;    // R
  const float* factors;  // (G U,), of the columns of R
  const float* h0;       // (B, U)
  const float* c0;       // (B, U), of lstm
  const float* bias;     // (U), of gru: added to h R for the candidate, before the reset gate
  const uint8_t* mask;   // (B, T): steps that count; null: all
  float* y;              // (B, T, U): h after each step
  float* h;              // (B, U): h after the last one
  float* c;              // the same for c, of lstm
  int64_t B, T, U;
  int64_t rows_per_block;
  RecurrentKind kind;
  bool backwards;  // begins with the last step
};

/// R (U, G U) of int8. First the sums of its columns, int32; then the bytes: both for each vector
/// of units gate after gate, the bytes for each four rows, which 0 fills up. Block [v] packs a
/// vector.
struct Int8RecurrentPackArgs {
  const int8_t* r;
  void* packed;
  int64_t U, G;
};

/// y = round(clip(x * f, -z, 255 - z)) + z with `format` (f, z); NaN becomes z.
struct ToBytesArgs {
  const float* x;
  const float* format;
  uint8_t* y;
  int64_t size, per_block;
};

/// Rows of `size` numbers from rows of pairs, the first of two in the low half of a byte.
struct Int4UnpackArgs {
  const int8_t* x;
  int8_t* y;
  int64_t rows, size;
  int64_t rows_per_block;
};

}  // namespace handmill
