// Sums by sparse panels: register tiles of a few rows by a few units.
#include "kernels/matmul/sparse.h"

#include <utility>

#include "kernels/matmul/tile.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;
struct Unit {
  const uint16_t* rows;
  const float* values;
  int64_t begin, end;  // the list of the chunk
  int64_t vector;      // the first one
  int vectors;
};

// --- sums ----------------------------------------------------------------------------------------

constexpr int kMostRows = 6;
constexpr int kAccumulators = W >= 16 ? 24 : 12;

// Units at a time, so that few rows have sums enough to keep the multipliers busy.
constexpr int units_at_once(int rows, int vectors) {
  int units = 1;
  while (units < 4 && 2 * units * rows * vectors <= kAccumulators) units *= 2;
  return units;
}

struct SparseTile {
  const MatmulArgs& p;
  const SparseChunk& chunk;
  const float* a;  // A[m, 0] as if the rows of A were whole
  int64_t a_row;
  int64_t m;
};

template <int MR, int NV>
HM_INLINE void add_row(Vec (&acc)[MR][NV], const float* const (&a)[MR], int64_t k, const float* b) {
  Vec b_k[NV];
#pragma GCC unroll 2
  for (int v = 0; v < NV; ++v) b_k[v] = Vec::load(b + v * W);
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) {
    const Vec a_mk = Vec::broadcast(a[m][k]);
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) acc[m][v] = fma(a_mk, b_k[v], acc[m][v]);
  }
}

template <int MR, int NV>
HM_INLINE void finish_unit(Vec (&acc)[MR][NV], const SparseTile& t, const Unit& unit) {
  const SparseChunk& x = t.chunk;
  const MatmulEpilogue& e = t.p.epilogue;
  const int64_t n = unit.vector * W, left = t.p.N - n;
  const int64_t columns = left < NV * W ? left : NV * W;
  float* c = x.c + t.m * x.c_row + n;
  const int64_t place = x.offset + t.m * t.p.c_row + n;
  finish_tile<MR, NV>(
      acc,
      {.c = c,
       .scale = x.finish.scale ? floats(e.scale) + n : nullptr,
       .bias = x.finish.bias ? floats(e.bias) + n : nullptr,
       .gate = x.finish.gate ? floats(e.grad_of) + place : nullptr,
       .residual = nullptr,
       .last_lanes = columns - (NV - 1) * W,
       .add_to_c = x.add_to_c,
       .relu = x.finish.relu},
      [&](int m) { return m * x.c_row; }, [&](int m) { return m * t.p.c_row; });
  if (x.finish.rest) {
    apply_epilogue(e, place, t.p.c_row, c, t.p.c_row, MR, columns, x.finish.relu);
  }
}

template <int MR, int NV, int kUnits>
void sparse_tile(const SparseTile& t, const Unit* units) {
  Vec acc[kUnits][MR][NV];
  const float* a[MR];
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) a[m] = t.a + m * t.a_row;
  const uint16_t* rows[kUnits];
  const float* values[kUnits];
  int64_t common = units[0].end - units[0].begin;
#pragma GCC unroll 4
  for (int u = 0; u < kUnits; ++u) {
    const int64_t count = units[u].end - units[u].begin;
    common = count < common ? count : common;
    rows[u] = units[u].rows + units[u].begin;
    values[u] = units[u].values + units[u].begin * (NV * W);
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 2
      for (int v = 0; v < NV; ++v) acc[u][m][v] = Vec::zero();
    }
  }
  for (int64_t i = 0; i < common; ++i) {
#pragma GCC unroll 4
    for (int u = 0; u < kUnits; ++u) {
      add_row<MR, NV>(acc[u], a, rows[u][i], values[u] + i * (NV * W));
    }
  }
#pragma GCC unroll 4
  for (int u = 0; u < kUnits; ++u) {
    const int64_t count = units[u].end - units[u].begin;
    for (int64_t i = common; i < count; ++i) {
      add_row<MR, NV>(acc[u], a, rows[u][i], values[u] + i * (NV * W));
    }
    finish_unit<MR, NV>(acc[u], t, units[u]);
  }
}

// One row and all of its terms, those with zeros too.
template <int NV>
void whole_row(const SparseTile& t, const Unit& unit) {
  Vec acc[1][NV];
  const float* const a[1] = {t.a};
  for (int v = 0; v < NV; ++v) acc[0][v] = Vec::zero();
  alignas(64) const float zeros[kUnitVectors * W] = {};
  int64_t i = unit.begin;
  for (int64_t k = t.chunk.k_begin; k < t.chunk.k_end; ++k) {
    const bool kept = i < unit.end && unit.rows[i] == k;
    add_row<1, NV>(acc, a, k, kept ? unit.values + i * (NV * W) : zeros);
    i += kept;
  }
  finish_unit<1, NV>(acc, t, unit);
}

using TileKernel = void (*)(const SparseTile& t, const Unit* units);

struct TileKernels {
  TileKernel one[kMostRows], some[kMostRows];  // units
  int at_once[kMostRows];
};

template <int NV>
constexpr TileKernels tile_kernels() {
  TileKernels found{};
  const auto fill = [&]<int... M>(std::integer_sequence<int, M...>) {
    ((found.one[M] = sparse_tile<M + 1, NV, 1>), ...);
    ((found.some[M] = sparse_tile<M + 1, NV, units_at_once(M + 1, NV)>), ...);
    ((found.at_once[M] = units_at_once(M + 1, NV)), ...);
  };
  fill(std::make_integer_sequence<int, kMostRows>());
  return found;
}

constexpr TileKernels kTileKernels[2] = {tile_kernels<1>(), tile_kernels<kUnitVectors>()};

// Units of one width.
struct Units {
  static constexpr int kRoom = 64;
  int count;
  Unit of[kRoom];
};

template <int NV>
void multiply_units(const SparseTile& t, int rows, bool are_finite, const Units& units) {
  if (!are_finite) {
    for (int m = 0; m < rows; ++m) {
      const SparseTile row{t.p, t.chunk, t.a + m * t.a_row, t.a_row, t.m + m};
      for (int u = 0; u < units.count; ++u) whole_row<NV>(row, units.of[u]);
    }
    return;
  }
  const TileKernels& kernels = kTileKernels[NV - 1];
  const int at_once = kernels.at_once[rows - 1];
  int u = 0;
  for (; u + at_once <= units.count; u += at_once) kernels.some[rows - 1](t, units.of + u);
  for (; u < units.count; ++u) kernels.one[rows - 1](t, units.of + u);
}

// x * 0 is 0 for what is finite, and NaN for all else.
bool are_finite(const float* a, int64_t stride, int64_t rows, int64_t n) {
  Vec sum = Vec::zero();
  for (int64_t m = 0; m < rows; ++m) {
    const float* a_m = a + m * stride;
    int64_t k = 0;
    for (; k + W <= n; k += W) sum = fma(Vec::load(a_m + k), Vec::zero(), sum);
    if (k < n) sum = fma(Vec::load_n(a_m + k, n - k), Vec::zero(), sum);
  }
  return !any(is_nan(sum));
}

void multiply_rows(const MatmulArgs& p, const SparseChunk& x, bool finite, const Units& narrow,
                   const Units& wide) {
  const int64_t count = x.m_end - x.m_begin, K = x.k_end - x.k_begin;
  const Split tiles(count, ceil_div(count, kMostRows));
  alignas(64) float copy[kMostRows * kMostSparseChunk];
  for (int64_t i = 0; i < ceil_div(count, kMostRows); ++i) {
    const int64_t m = tiles.at(i);
    const int rows = static_cast<int>(tiles.at(i + 1) - m);
    const float* a = x.a + m * x.a_row;
    int64_t a_row = x.a_row;
    if (x.a_col != 1) {
      for (int64_t k = 0; k < K; ++k) {
        for (int r = 0; r < rows; ++r) copy[r * K + k] = a[r * x.a_row + k * x.a_col];
      }
      a = copy;
      a_row = K;
    }
    const bool fine = finite || are_finite(a, a_row, rows, K);
    const SparseTile tile{p, x, a - x.k_begin, a_row, x.m_begin + m};
    if (narrow.count > 0) multiply_units<1>(tile, rows, fine, narrow);
    if (wide.count > 0) multiply_units<kUnitVectors>(tile, rows, fine, wide);
  }
}

}  // namespace

void multiply_sparse(const MatmulArgs& p, const SparseChunk& x, RowsSeen& seen) {
  const int64_t rows = x.m_end - x.m_begin, K = x.k_end - x.k_begin;
  RowsSeen::Part& part = seen.of[x.chunk % RowsSeen::kChunks];
  if (part.a != x.a_source || part.rows != rows) {
    const bool finite =
        x.a_col == 1 ? are_finite(x.a, x.a_row, rows, K) : are_finite(x.a, x.a_col, K, rows);
    part = {x.a_source, rows, finite};
  }
  Units narrow, wide;
  narrow.count = wide.count = 0;
  for (int64_t panel = x.panel_begin; panel < x.panel_end; ++panel) {
    if (x.flags[panel] == 0) continue;
    const int64_t v_end = x.panels.at(panel + 1);
    const float* unit = x.b + p.K * x.panels.at(panel) * W;
    for (int64_t v = x.panels.at(panel); v < v_end; v += unit_vectors(v, v_end)) {
      const int vectors = unit_vectors(v, v_end);
      const auto* starts = reinterpret_cast<const int32_t*>(unit);
      const int64_t count = starts[p.chunks];
      const auto* listed = reinterpret_cast<const uint16_t*>(unit + words_of_starts(p.chunks));
      const float* values = unit + words_of_starts(p.chunks) + words_of_rows(count);
      Units& units = vectors == 1 ? narrow : wide;
      units.of[units.count++] = {listed, values, starts[x.chunk], starts[x.chunk + 1], v, vectors};
      unit = values + count * vectors * W;
      if (units.count < Units::kRoom) continue;
      multiply_rows(p, x, part.are_finite, narrow, wide);
      narrow.count = wide.count = 0;
    }
  }
  multiply_rows(p, x, part.are_finite, narrow, wide);
}

}  // namespace handmill::HM_ISA
