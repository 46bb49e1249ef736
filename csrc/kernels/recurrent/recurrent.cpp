// Recurrent layers, forward: some rows of the batch through all steps, by one thread.
#include <utility>

#include "kernels/recurrent/parts.h"
#include "simd/activations.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;
constexpr int MR = kTileRows;

template <RecurrentKind kKind>
constexpr int kGates = gates_of(kKind);

// The state of a block between steps; rows of `stride` floats.
struct BlockState {
  float *h, *h_next;        // before and after the step
  float *kept, *kept_next;  // h times the factors of dropout, one array a gate
  float* c;                 // of lstm; of gru_before what the candidate is made of
  int64_t stride, gate_stride;
};

// One step of MR rows and one vector of units.
struct StepTile {
  const float* z[MR];
  float *y[MR], *gates[MR], *cells[MR], *before[MR];
  const float* drop[MR];
  bool counts[MR], any;
  int64_t first_row;  // in the block
  int64_t unit, lanes;
};

// Some gates of G: z and what R adds to it. `state`: what R multiplies, rows of the block; gate g
// reads it `gate_stride` further.
template <int kFirst, int kCount, int kAll>
HM_INLINE void gate_products(const RecurrentArgs& a, const StepTile& tile, const float* state,
                             int64_t stride, int64_t gate_stride, Vec (&acc)[MR][kCount]) {
  const int64_t U = a.U;
  for (int m = 0; m < MR; ++m) {
    for (int g = 0; g < kCount; ++g) {
      acc[m][g] = Vec::load_n(tile.z[m] + (kFirst + g) * U + tile.unit, tile.lanes);
    }
  }
  const float* b = a.packed + tile.unit * U * kAll + kFirst * W;
  const float* h = state + tile.first_row * stride;
  for (int64_t k = 0; k < U; ++k, b += kAll * W) {
#pragma GCC unroll 4
    for (int g = 0; g < kCount; ++g) {
      const Vec b_k = Vec::load(b + g * W);
#pragma GCC unroll 4
      for (int m = 0; m < MR; ++m) {
        const Vec h_k = Vec::broadcast(h[g * gate_stride + m * stride + k]);
        acc[m][g] = fma(h_k, b_k, acc[m][g]);
      }
    }
  }
}

// Of a step of gru_before: the gates z and r, into `update` and `reset`, and what the candidate is
// made of, into s.c, where all units of it are before any is multiplied.
template <bool kDrop>
HM_INLINE void open_gates(const RecurrentArgs& a, const BlockState& s, const StepTile& tile,
                          float* update) {
  const int64_t u = tile.unit;
  Vec acc[MR][2];
  gate_products<0, 2, 3>(a, tile, kDrop ? s.kept : s.h, s.stride, kDrop ? s.gate_stride : 0, acc);
  const float* h = kDrop ? s.kept + 2 * s.gate_stride : s.h;
  for (int m = 0; m < MR; ++m) {
    const int64_t at = (tile.first_row + m) * s.stride + u;
    const Vec reset = sigmoid(acc[m][1]);
    sigmoid(acc[m][0]).store(update + at);
    reset.store(update + s.gate_stride + at);
    (reset * Vec::load(h + at)).store(s.c + at);
  }
}

// The rest of it: the candidate, and the state after the step.
template <bool kDrop>
HM_INLINE void close_step(const RecurrentArgs& a, const BlockState& s, const StepTile& tile,
                          const float* update) {
  const int64_t u = tile.unit, n = tile.lanes, U = a.U;
  Vec acc[MR][1] = {};
  if (tile.any) gate_products<2, 1, 3>(a, tile, s.c, s.stride, 0, acc);
  for (int m = 0; m < MR; ++m) {
    const int64_t at = (tile.first_row + m) * s.stride + u;
    Vec h = Vec::load(s.h + at), gates[3] = {Vec::zero(), Vec::zero(), Vec::zero()};
    Vec cell = Vec::zero();
    if (a.before != nullptr) h.store_n(tile.before[m] + u, n);
    if (tile.counts[m]) {
      gates[0] = Vec::load(update + at);
      gates[1] = Vec::load(update + s.gate_stride + at);
      gates[2] = tanh(acc[m][0]);
      cell = Vec::load(s.c + at);
      h = fma(gates[0], h, (Vec::broadcast(1.0f) - gates[0]) * gates[2]);
    }
    h.store(s.h_next + at);
    if constexpr (kDrop) {
      for (int g = 0; g < 3; ++g) {
        (h * Vec::load_n(tile.drop[m] + g * U + u, n)).store(s.kept_next + g * s.gate_stride + at);
      }
    }
    h.store_n(tile.y[m] + u, n);
    if (a.gates == nullptr) continue;
    for (int g = 0; g < 3; ++g) gates[g].store_n(tile.gates[m] + g * U + u, n);
    cell.store_n(tile.cells[m] + u, n);
  }
}

template <RecurrentKind kKind, bool kDrop>
HM_INLINE void products(const RecurrentArgs& a, const BlockState& s, const StepTile& tile,
                        Vec (&acc)[MR][kGates<kKind>]) {
  constexpr int G = kGates<kKind>;
  const int64_t U = a.U;
  for (int m = 0; m < MR; ++m) {
    for (int g = 0; g < G; ++g) {
      const bool candidate = kKind == RecurrentKind::gru && g == 2;
      const float* from = candidate ? a.bias + tile.unit : tile.z[m] + g * U + tile.unit;
      acc[m][g] = Vec::load_n(from, tile.lanes);
    }
  }
  const float* b = a.packed + tile.unit * U * G;
  const float* h = (kDrop ? s.kept : s.h) + tile.first_row * s.stride;
  for (int64_t k = 0; k < U; ++k, b += G * W) {
    Vec b_k[G];
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) b_k[g] = Vec::load(b + g * W);
#pragma GCC unroll 4
    for (int m = 0; m < MR; ++m) {
      if constexpr (kDrop) {
#pragma GCC unroll 4
        for (int g = 0; g < G; ++g) {
          const Vec h_k = Vec::broadcast(h[g * s.gate_stride + m * s.stride + k]);
          acc[m][g] = fma(h_k, b_k[g], acc[m][g]);
        }
      } else {
        const Vec h_k = Vec::broadcast(h[m * s.stride + k]);
#pragma GCC unroll 4
        for (int g = 0; g < G; ++g) acc[m][g] = fma(h_k, b_k[g], acc[m][g]);
      }
    }
  }
}

// The state of one row and vector of units after a step.
template <RecurrentKind kKind, bool kDrop>
HM_INLINE void advance(const RecurrentArgs& a, const BlockState& s, const StepTile& tile, int m,
                       const Vec (&acc)[kGates<kKind>], Vec z_candidate) {
  constexpr int G = kGates<kKind>;
  const int64_t at = (tile.first_row + m) * s.stride + tile.unit;
  const int64_t n = tile.lanes, u = tile.unit, U = a.U;
  Vec h = Vec::load(s.h + at), cell = Vec::zero(), gates[G];
  if (a.before != nullptr) h.store_n(tile.before[m] + u, n);
  for (int g = 0; g < G; ++g) gates[g] = Vec::zero();
  if (tile.counts[m]) {
    if constexpr (kKind == RecurrentKind::lstm) {
      gates[0] = sigmoid(acc[0]);
      gates[1] = sigmoid(acc[1]);
      gates[2] = tanh(acc[2]);
      gates[3] = sigmoid(acc[3]);
      cell = fma(gates[1], Vec::load(s.c + at), gates[0] * gates[2]);
      cell.store(s.c + at);
      h = gates[3] * tanh(cell);
    } else if constexpr (kKind == RecurrentKind::gru) {
      const Vec one = Vec::broadcast(1.0f);
      gates[0] = sigmoid(acc[0]);
      gates[1] = sigmoid(acc[1]);
      cell = acc[2];
      gates[2] = tanh(fma(gates[1], cell, z_candidate));
      h = fma(gates[0], h, (one - gates[0]) * gates[2]);
    } else {
      h = tanh(acc[0]);
    }
  } else if constexpr (kKind == RecurrentKind::lstm) {
    cell = Vec::load(s.c + at);
  }
  h.store(s.h_next + at);
  if constexpr (kDrop) {
    for (int g = 0; g < G; ++g) {
      (h * Vec::load_n(tile.drop[m] + g * U + u, n)).store(s.kept_next + g * s.gate_stride + at);
    }
  }
  h.store_n(tile.y[m] + u, n);
  if (a.gates != nullptr) {
    for (int g = 0; g < G; ++g) gates[g].store_n(tile.gates[m] + g * U + u, n);
    if constexpr (kKind != RecurrentKind::simple) cell.store_n(tile.cells[m] + u, n);
  }
}

template <RecurrentKind kKind, bool kDrop>
HM_INLINE void whole_step(const RecurrentArgs& a, const BlockState& s, const StepTile& tile) {
  Vec acc[MR][kGates<kKind>] = {}, z_candidate[MR] = {};
  if (tile.any) products<kKind, kDrop>(a, s, tile, acc);
  // Gates are written over z: all rows read it before, since the last one may be there twice.
  if constexpr (kKind == RecurrentKind::gru) {
    for (int m = 0; m < MR; ++m) {
      z_candidate[m] = Vec::load_n(tile.z[m] + 2 * a.U + tile.unit, tile.lanes);
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < MR; ++m) advance<kKind, kDrop>(a, s, tile, m, acc[m], z_candidate[m]);
}

// The rows of a block at step t, by tiles.
template <RecurrentKind kKind, bool kDrop>
HM_INLINE int step_tiles(const RecurrentArgs& a, RowBlock block, int64_t t, StepTile* tiles) {
  constexpr int G = kGates<kKind>;
  int count = 0;
  for (int64_t r = 0; r < block.rows; r += MR) {
    StepTile& tile = tiles[count++];
    tile.first_row = r;
    tile.any = false;
    for (int m = 0; m < MR; ++m) {
      const int64_t row = block.row(r + m), at = row * a.T + t;
      tile.z[m] = a.z + at * G * a.U;
      tile.y[m] = a.y + at * a.U;
      tile.gates[m] = a.gates == nullptr ? nullptr : a.gates + at * G * a.U;
      tile.cells[m] = a.cells == nullptr ? nullptr : a.cells + at * a.U;
      tile.before[m] = a.before == nullptr ? nullptr : a.before + at * a.U;
      tile.drop[m] = kDrop ? a.drop + row * G * a.U : nullptr;
      tile.counts[m] = counts(a.mask, a.T, row, t);
      tile.any |= tile.counts[m];
    }
  }
  return count;
}

template <RecurrentKind kKind, bool kDrop>
void run_block(const RecurrentArgs& a, RowBlock block, float* scratch) {
  constexpr int G = kGates<kKind>;
  const int64_t U = a.U, T = a.T;
  BlockState s{};
  s.stride = padded_units(U);
  s.gate_stride = block.padded() * s.stride;
  s.h = scratch;
  s.h_next = s.h + s.gate_stride;
  s.c = s.h_next + s.gate_stride;
  s.kept = s.c + s.gate_stride;
  s.kept_next = s.kept + (kDrop ? G : 0) * s.gate_stride;
  float* update = s.kept_next + (kDrop ? G : 0) * s.gate_stride;  // of gru_before: z, then r
  for (int64_t r = 0; r < block.padded(); ++r) {
    const int64_t row = block.row(r);
    for (int64_t u = 0; u < U; u += W) {
      const int64_t n = U - u < W ? U - u : W, at = r * s.stride + u;
      const Vec h = Vec::load_n(a.h0 + row * U + u, n);
      h.store(s.h + at);
      if (kKind == RecurrentKind::lstm) Vec::load_n(a.c0 + row * U + u, n).store(s.c + at);
      for (int g = 0; kDrop && g < G; ++g) {
        const Vec factor = Vec::load_n(a.drop + (row * G + g) * U + u, n);
        (h * factor).store(s.kept + g * s.gate_stride + at);
      }
    }
  }
  StepTile tiles[kMostTiles];
  for (int64_t step = 0; step < T; ++step) {
    const int64_t t = a.backwards ? T - 1 - step : step;
    const int count = step_tiles<kKind, kDrop>(a, block, t, tiles);
    // A panel of R serves all tiles while it lies in the first-level cache.
    const auto each = [&](auto&& part) {
      for (int64_t u = 0; u < U; u += W) {
        for (int i = 0; i < count; ++i) {
          tiles[i].unit = u;
          tiles[i].lanes = U - u < W ? U - u : W;
          part(tiles[i]);
        }
      }
    };
    if constexpr (kKind == RecurrentKind::gru_before) {
      each([&](const StepTile& tile) {
        if (tile.any) open_gates<kDrop>(a, s, tile, update);
      });
      each([&](const StepTile& tile) { close_step<kDrop>(a, s, tile, update); });
    } else {
      each([&](const StepTile& tile) { whole_step<kKind, kDrop>(a, s, tile); });
    }
    std::swap(s.h, s.h_next);
    std::swap(s.kept, s.kept_next);
  }
  for (int64_t r = 0; r < block.rows; ++r) {
    std::memcpy(a.h + (block.begin + r) * U, s.h + r * s.stride, sizeof(float) * U);
    if (kKind == RecurrentKind::lstm) {
      std::memcpy(a.c + (block.begin + r) * U, s.c + r * s.stride, sizeof(float) * U);
    }
  }
}

template <RecurrentKind kKind>
void run(const RecurrentArgs& a, Range blocks, float* scratch) {
  for (int64_t i = blocks.begin; i < blocks.end; ++i) {
    const int64_t begin = i * a.rows_per_block;
    const int64_t rows = a.B - begin < a.rows_per_block ? a.B - begin : a.rows_per_block;
    if (a.drop != nullptr) {
      run_block<kKind, true>(a, {begin, rows}, scratch);
    } else {
      run_block<kKind, false>(a, {begin, rows}, scratch);
    }
  }
}

}  // namespace

void recurrent(const RecurrentArgs& a, Range blocks, void* scratch) {
  float* memory = static_cast<float*>(scratch);
  switch (a.kind) {
    case RecurrentKind::simple:
      return run<RecurrentKind::simple>(a, blocks, memory);
    case RecurrentKind::gru:
      return run<RecurrentKind::gru>(a, blocks, memory);
    case RecurrentKind::gru_before:
      return run<RecurrentKind::gru_before>(a, blocks, memory);
    case RecurrentKind::lstm:
      return run<RecurrentKind::lstm>(a, blocks, memory);
  }
}

}  // namespace handmill::HM_ISA
