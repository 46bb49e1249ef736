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
// b[s.b + k * b_stride + n] (* scale[n]) (+ bias[n]) (+ residual[c_offset[m] + n]), then relu if
// asked, then 0 where gate[c_offset[m] + n] <= 0 if there is a gate, for one register tile, whose
// rows and vectors are those of the kernel; the last vector holds last_lanes <= width columns.
struct WindowTile {
  const float* a;
  const float* b;
  float* c;
  const float* scale;     // null: none
  const float* bias;      // null: none
  const float* gate;      // null: none
  const float* residual;  // null: none
  const int64_t* a_offset;
  const int64_t* c_offset;
  const WindowSegment* segments;
  int64_t num_segments, length;
  int64_t a_step, b_stride;
  int64_t last_lanes;
  bool add_to_c;
  bool relu;
};

/// Which steps of an epilogue behind scale and bias a tile applies; those behind a step that it
/// does not know are left to apply_epilogue, unless all are applied.
struct InTile {
  bool residual, relu, gate, all;

  HM_INLINE explicit InTile(const MatmulEpilogue& e) {
    const bool is_relu = e.activation == Activation::relu;
    const bool is_gate = e.grad == ActivationGrad::relu;
    all = (is_relu || e.activation == Activation::none) &&
          (is_gate || e.grad == ActivationGrad::none);
    residual = all && e.residual != nullptr;
    relu = is_relu && (all || e.residual == nullptr);
    gate = all && is_gate;
  }
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

// f(first column, vectors, columns) for the panels [begin, end) of an even partition.
template <class F>
HM_INLINE void for_each_panel(int64_t columns, int32_t panel_vectors, int64_t begin, int64_t end,
                              F f) {
  constexpr int W = Vec::width;
  const int64_t vectors = ceil_div(columns, W);
  const Split panels(vectors, ceil_div(vectors, panel_vectors));
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t v = panels.at(panel), count = panels.at(panel + 1) - v;
    const int64_t left = columns - v * W;
    f(v * W, static_cast<int>(count), left < count * W ? left : count * W);
  }
}

// Computes `rows` rows of `tile`, in tiles as even as possible, and calls after(tile, its rows)
// after each.
template <class After>
HM_INLINE void run_tiles(WindowTile tile, int64_t rows, int vectors, bool masked, After after) {
  const Split tiles(rows, ceil_div(rows, window_rows(vectors)));
  const int low_rows = static_cast<int>(tiles.quotient);
  const WindowKernel low = window_kernel(low_rows, vectors, masked);
  const WindowKernel tall =
      tiles.remainder > 0 ? window_kernel(low_rows + 1, vectors, masked) : low;
  const int64_t num_tiles = ceil_div(rows, window_rows(vectors));
  for (int64_t i = 0; i < num_tiles; ++i) {
    const bool is_tall = i < tiles.remainder;
    (is_tall ? tall : low)(tile);
    const int64_t height = low_rows + is_tall;
    after(tile, height);
    tile.a_offset += height;
    tile.c_offset += height;
  }
}

}  // namespace handmill::HM_ISA
