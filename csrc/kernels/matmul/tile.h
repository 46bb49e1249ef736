// The loop of the register tiles: sums of outer products in MR x NV accumulators.
#pragma once

#include "kernels/matmul/micro.h"
#include "simd/activations.h"

namespace handmill::HM_ISA {

// Accumulators, NV vectors of b and one of a fit the register file: 32 registers at avx512 (a is
// broadcast from memory inside the fma), 16 elsewhere. One row takes panels of any width.
constexpr bool tile_exists(int rows, int vectors) {
  constexpr MatmulTile t = kMatmulTile;
  return rows == 1 || (rows <= (t.few_rows > 0 ? t.few_rows : t.narrow_rows) &&
                       vectors <= t.vectors && rows * vectors <= t.rows * t.vectors);
}

// What follows the sums of a tile.
struct TileFinish {
  float* c;
  const float* scale;     // null: none
  const float* bias;      // null: none
  const float* gate;      // null: none
  const float* residual;  // null: none
  int64_t last_lanes;
  bool add_to_c;
  bool relu;
};

// Adds c, scales, adds bias and residual, applies relu and gate, and stores. Row m of c begins at c
// + c_offset(m), as that of the residual, and that of the gate at gate + gate_offset(m). Short
// loops: of one over all steps GCC keeps the sums in memory.
template <int MR, int NV, class Offset, class GateOffset>
HM_INLINE void finish_tile(Vec (&acc)[MR][NV], const TileFinish& f, Offset c_offset,
                           GateOffset gate_offset) {
  constexpr int W = Vec::width;
  const int64_t last = f.last_lanes;
  if (f.add_to_c) {
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) {
      const float* c_m = f.c + c_offset(m);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        acc[m][v] =
            acc[m][v] + (v == NV - 1 ? Vec::load_n(c_m + v * W, last) : Vec::load(c_m + v * W));
      }
    }
  }
  if (f.scale != nullptr) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      const Vec scale =
          v == NV - 1 ? Vec::load_n(f.scale + v * W, last) : Vec::load(f.scale + v * W);
#pragma GCC unroll 8
      for (int m = 0; m < MR; ++m) acc[m][v] = acc[m][v] * scale;
    }
  }
  if (f.bias != nullptr) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      const Vec bias = v == NV - 1 ? Vec::load_n(f.bias + v * W, last) : Vec::load(f.bias + v * W);
#pragma GCC unroll 8
      for (int m = 0; m < MR; ++m) acc[m][v] = acc[m][v] + bias;
    }
  }
  if (f.residual != nullptr) {
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) {
      const float* r_m = f.residual + c_offset(m);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        acc[m][v] =
            acc[m][v] + (v == NV - 1 ? Vec::load_n(r_m + v * W, last) : Vec::load(r_m + v * W));
      }
    }
  }
  if (f.relu) {
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) acc[m][v] = at_least(acc[m][v], Vec::zero());
    }
  }
  if (f.gate != nullptr) {
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) {
      const float* gate_m = f.gate + gate_offset(m);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        const Vec gate =
            v == NV - 1 ? Vec::load_n(gate_m + v * W, last) : Vec::load(gate_m + v * W);
        acc[m][v] = relu_grad(acc[m][v], gate);
      }
    }
  }
  // Whole vectors apart: a masked store costs several plain ones at avx2.
  const bool whole = last == W;
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) {
    float* c_m = f.c + c_offset(m);
#pragma GCC unroll 8
    for (int v = 0; v < NV - 1; ++v) acc[m][v].store(c_m + v * W);
    if (whole) {
      acc[m][NV - 1].store(c_m + (NV - 1) * W);
    } else {
      acc[m][NV - 1].store_n(c_m + (NV - 1) * W, last);
    }
  }
}

// beside(b_k) is called once for each k, with its vectors of b, before its products: work that the
// divider or the memory does while the products keep the multipliers busy.
template <int MR, int NV, bool kARows, bool kMasked, bool kHalf, class Beside>
HM_INLINE void compute_tile(const RegisterTile& t, Beside beside) {
  constexpr int W = Vec::width;
  Vec acc[MR][NV];
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) acc[m][v] = Vec::zero();
  }
  const int64_t K = t.K, a_stride = t.a_stride, b_stride = t.b_stride, last = t.last_lanes;
  const float* a_m[MR];
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) a_m[m] = t.a + (kARows ? m * a_stride : m);
  const float* b = t.b;
  const int64_t prefetch_mask = t.prefetch_mask;
  for (const float* line = t.next_b; line < t.next_b_end; line += 16) {
    __builtin_prefetch(line, 0, 2);
  }
  if (t.read_after != nullptr) {  // it was written long ago
    for (int m = 0; m < MR; ++m) {
      for (int v = 0; v < NV; ++v) __builtin_prefetch(t.read_after + m * t.gate_stride + v * W);
    }
  }
#pragma GCC unroll 1
  for (int64_t k = 0; k < K; ++k) {
    if (kARows && (k & prefetch_mask) == 0) {
#pragma GCC unroll 8
      for (int m = 0; m < MR; ++m) __builtin_prefetch(a_m[m] + MR * a_stride + k);
    }
    Vec b_k[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      b_k[v] =
          (kMasked || kHalf) && v == NV - 1 ? Vec::load_n(b + v * W, last) : Vec::load(b + v * W);
    }
    beside(b_k);
    const int64_t a_k = kARows ? k : k * a_stride;
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) {
      const Vec a_mk = Vec::broadcast(a_m[m][a_k]);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        if constexpr (kHalf && NV <= 2) {  // the element straight from memory
          acc[m][v] =
              v == NV - 1 ? fma_low(a_m[m][a_k], b_k[v], acc[m][v]) : fma(a_mk, b_k[v], acc[m][v]);
        } else {
          acc[m][v] = kHalf && v == NV - 1 ? fma_low(a_mk, b_k[v], acc[m][v])
                                           : fma(a_mk, b_k[v], acc[m][v]);
        }
      }
    }
    b += b_stride;
  }

  finish_tile<MR, NV>(
      acc, {t.c, t.scale, t.bias, t.gate, nullptr, last, t.add_to_c, t.relu},
      [&](int m) { return m * t.c_stride; }, [&](int m) { return m * t.gate_stride; });
}

}  // namespace handmill::HM_ISA
