// What the files of the bfloat16 matmul share: packing into pairs, register tiles, the epilogue.
#pragma once

#include "kernels/matmul/parts.h"

namespace handmill::HM_ISA {

/// The address of element `index` of a float32 or bfloat16 array.
HM_INLINE const void* element(const void* base, Dtype dtype, int64_t index) {
  return static_cast<const char*>(base) + index * (dtype == Dtype::bfloat16 ? 2 : 4);
}
HM_INLINE void* element(void* base, Dtype dtype, int64_t index) {
  return static_cast<char*>(base) + index * (dtype == Dtype::bfloat16 ? 2 : 4);
}

// A block of X[k, n] for K x N, element (k, n) at x[k * k_stride + n * n_stride].
struct PairSource {
  const void* x;
  Dtype dtype;
  int64_t k_stride, n_stride;
  int64_t K, N;
};

// dst[(j * stride + n) * 2 + i] = X[2 j + i, n] for ceil(K / 2) pairs and n < columns, a multiple
// of the vector width; what lies past K and N is zero.
void pack_pairs(const PairSource& x, uint16_t* dst, int64_t stride, int64_t columns);

// dst[n * stride + k] = X[k, n], rounded up to whole pairs with zero; k_stride == 1.
void pack_rows(const PairSource& x, uint16_t* dst, int64_t stride);

// Pairs of one pass over a panel: 256 of 64 columns are 64 KB, half of L2 with those of A.
constexpr int64_t kPairsAtOnce = 256;

// c[m, n] (+)= the sum over K2 pairs, a chain that goes on where c left off.
struct PairTile {
  const uint16_t* a;  // rows kernels: pair j of row m at a[m * a_stride + 2 j]
  const uint16_t* b;  //   columns kernels: at a[j * a_stride + 2 m]; b: at b[j * b_stride + 2 n]
  float* c;
  int64_t a_stride, b_stride, c_stride;
  int64_t K2;
  int64_t last_lanes;  // columns of c in the last vector
  bool add_to_c;
};

using PairKernel = void (*)(const PairTile& t);

// The kernel for 1 <= rows <= kBf16Tile.rows and 1 <= vectors <= kBf16Tile.vectors. They want the
// mode of simd/bf16_dot.h.
PairKernel pair_kernel(int rows, int vectors, bool a_rows);

// Panels of one strip: with two vectors each, one row has too few chains to hide what they wait
// for.
constexpr int kStripPanels = kBf16Tile.vectors == 2 ? 4 : 0;

// c[n] = the sum over K2 pairs of one row, for the columns of kStripPanels whole panels.
struct PairStrip {
  const uint16_t* a;  // pair j at a[j * a_stride]
  const uint16_t* b;  // panel p from b[p * b_panel] on
  float* c;
  int64_t a_stride, b_panel;
  int64_t K2;
};
void pair_strip(const PairStrip& t);

// Sums rows x columns, changed in place, become the elements of C from `offset` on, whose rows are
// c_row apart and whose first column is n. c: the first of them; it may be the sums' own memory.
// widened: rows * columns floats.
void finish_bf16(const MatmulEpilogue& e, int64_t offset, int64_t n, float* sums, int64_t sums_row,
                 int64_t rows, int64_t columns, void* c, int64_t c_row, Dtype c_dtype,
                 float* widened);

}  // namespace handmill::HM_ISA
