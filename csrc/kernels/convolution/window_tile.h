// The register tiles of convolutions: sums of outer products whose rows of A begin anywhere.
#pragma once

#include "kernels/matmul/parts.h"
#include "kernels/matmul/tile.h"

namespace handmill::HM_ISA {

/// `length` products in a row: of A from a + a_offset[m] + a on, of B from b + b on.
struct WindowSegment {
  int64_t a, b;
};

// c[c_offset[m] + n] (+)= sum over segments s and k of a[a_offset[m] + s.a + k * a_step]
// b[s.b + k * b_stride + n] (+ bias[n]), then relu if asked, then 0 where gate[c_offset[m] + n] <=
// 0 if there is a gate, for one register tile, whose rows and vectors are those of the kernel; the
// last vector holds last_lanes <= width columns.
struct WindowTile {
  const float* a;
  const float* b;
  float* c;
  const float* bias;  // null: none
  const float* gate;  // null: none
  const int64_t* a_offset;
  const int64_t* c_offset;
  const WindowSegment* segments;
  int64_t num_segments, length;
  int64_t a_step, b_stride;
  int64_t last_lanes;
  bool add_to_c;
  bool relu;
};

using WindowKernel = void (*)(const WindowTile& t);

// Rows of the tallest tile of so many vectors.
constexpr int window_rows(int vectors) {
  int rows = 8;
  while (rows > 1 && !tile_exists(rows, vectors)) --rows;
  return rows;
}

// Null where it would not fit the registers. masked: b has only last_lanes readable columns in the
// last vector.
WindowKernel window_kernel(int rows, int vectors, bool masked);

}  // namespace handmill::HM_ISA
