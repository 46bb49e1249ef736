// Reads panels one after the other from their first row to their last, all chunks of K in turn: one
// run of memory, which the hardware follows. Register tiles, which go through the panels once for
// each chunk and fetch the next panel by hand, took 37 ms a token of GPT-2's shapes where this
// takes 27 (Zen 3, one thread); fetched by hand 8 to 128 lines ahead, this took 31 to 36.
#include "kernels/matmul/packed_row.h"

#include "kernels/matmul/tile.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;
constexpr int kRows = 2;  // of b at a time

template <int NV>
HM_INLINE void add_row(Vec (&sums)[NV], const float* a, const float* b) {
  const Vec a_k = Vec::broadcast(*a);
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v) sums[v] = fma(a_k, Vec::load(b + v * W), sums[v]);
}

template <int NV>
void multiply_panel(const PackedRow& p, int64_t n) {
  Vec acc[1][NV];
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v) acc[0][v] = Vec::zero();
  const float* b = p.b + p.K * n + p.chunks.at(p.chunk_begin) * (NV * W);
  for (int64_t chunk = p.chunk_begin; chunk < p.chunk_end; ++chunk) {
    Vec sums[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) sums[v] = Vec::zero();
    int64_t k = p.chunks.at(chunk);
    const int64_t end = p.chunks.at(chunk + 1);
    for (; k + kRows <= end; k += kRows) {
#pragma GCC unroll 4
      for (int i = 0; i < kRows; ++i, b += NV * W) add_row(sums, p.a + (k + i) * p.a_stride, b);
    }
    for (; k < end; ++k, b += NV * W) add_row(sums, p.a + k * p.a_stride, b);
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      acc[0][v] = chunk == p.chunk_begin ? sums[v] : sums[v] + acc[0][v];
    }
  }
  const int64_t columns = p.N - n < NV * W ? p.N - n : NV * W;
  const MatmulEpilogue& e = *p.epilogue;
  TileFinish finish{};
  finish.c = p.c + n;
  finish.scale = p.finish.scale ? floats(e.scale) + n : nullptr;
  finish.bias = p.finish.bias ? floats(e.bias) + n : nullptr;
  finish.gate = p.finish.gate ? floats(e.grad_of) + p.offset + n : nullptr;
  finish.last_lanes = columns - (NV - 1) * W;
  finish.relu = p.finish.relu;
  const auto only = [](int) { return 0; };
  finish_tile<1, NV>(acc, finish, only, only);
  if (p.finish.rest) {
    apply_epilogue(e, p.offset + n, 0, p.c + n, 0, 1, columns, p.finish.relu);
  }
}

template <int NV>
void multiply_panels(const PackedRow& p, int vectors, int64_t n) {
  if constexpr (NV > 1) {
    if (vectors < NV) return multiply_panels<NV - 1>(p, vectors, n);
  }
  multiply_panel<NV>(p, n);
}

}  // namespace

void multiply_packed_row(const PackedRow& p) {
  for (int64_t panel = p.panel_begin; panel < p.panel_end; ++panel) {
    const int64_t v = p.panels.at(panel);
    multiply_panels<kMatmulTile.vectors>(p, static_cast<int>(p.panels.at(panel + 1) - v), v * W);
  }
}

}  // namespace handmill::HM_ISA
