// The register tiles of matmul, shared by every kernel that lowers to a sum of outer products.
#pragma once

#include "simd/simd.h"
#include "simd/tile.h"

namespace handmill::HM_ISA {

// c[m, n] (+)= sum_k a[m, k] b[k, n] (* scale[n]) (+ bias[n]), then relu if asked, then 0 where
// gate[m, n] <= 0 if there is a gate, for one register tile. Rows and vectors are those of the
// kernel; the last vector holds last_lanes <= width columns of c, scale and bias.
struct RegisterTile {
  const float* a;
  const float* b;
  float* c;
  const float* scale;  // null: none
  const float* bias;   // null: none
  const float* gate;   // null: none
  // What the epilogue reads of each element, fetched while the products run; null: nothing. Its
  // rows are gate_stride apart.
  const float* read_after;
  int64_t a_stride;  // rows kernels: a[m * a_stride + k]; columns kernels: a[k * a_stride + m]
  int64_t b_stride;
  int64_t c_stride;
  int64_t gate_stride;
  int64_t K;
  int64_t last_lanes;
  // Rows kernels prefetch the rows of A below the tile where (k & prefetch_mask) == 0; -1: hardly.
  int64_t prefetch_mask;
  // Storing kernels: K rows of the vectors of b, without gaps, zero behind last_lanes.
  float* b_copy;
  int64_t rows_ahead;  // storing and fetching kernels: rows of b that they fetch ahead
  // What is fetched into L2 meanwhile: a part of the panel of B that comes next.
  const float *next_b, *next_b_end;
  bool add_to_c;
  bool relu;
};

using RegisterKernel = void (*)(const RegisterTile& t);

// The kernel for the given shape, null where it would not fit the registers (see tile_exists).
// a_rows: A is read along rows. masked: b has only last_lanes readable columns in the last vector;
// other kernels read whole vectors of b. half: last_lanes is at most half a vector (see fma_low);
// any b.
RegisterKernel register_kernel(int rows, int vectors, bool a_rows, bool masked, bool half);

// The same for A by rows, which also copies b, read in place, to b_copy: the tiles below find it
// there. A copy made beforehand takes its own time, here memory works while the multipliers do.
// Null for narrow and low tiles.
RegisterKernel storing_kernel(int rows, int vectors, bool masked);

// The same without the copy: it only fetches b ahead. Null for narrow tiles.
RegisterKernel fetching_kernel(int rows, int vectors, bool masked);

}  // namespace handmill::HM_ISA
