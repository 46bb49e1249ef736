// The register tiles of the bfloat16 matmul: chains of pair products in MR x NV accumulators.
#include "kernels/matmul/bf16_parts.h"
#include "simd/bf16_dot.h"
#include "simd/tile.h"

namespace handmill::HM_ISA {
namespace {

constexpr int kMaxRows = 6;
constexpr int kMaxVectors = 4;

template <int MR, int NV, bool kARows>
void pair_tile(const PairTile& t) {
  constexpr int W = Vec::width;
  const int64_t K2 = t.K2, a_stride = t.a_stride, last = t.last_lanes;
  Vec acc[MR][NV];
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) {
    const float* c_m = t.c + m * t.c_stride;
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      acc[m][v] = !t.add_to_c   ? Vec::zero()
                  : v == NV - 1 ? Vec::load_n(c_m + v * W, last)
                                : Vec::load(c_m + v * W);
    }
  }
  const uint16_t* a_m[MR];
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) a_m[m] = t.a + (kARows ? m * a_stride : 2 * m);
  const uint16_t* b = t.b;
#pragma GCC unroll 1
  for (int64_t j = 0; j < K2; ++j) {
    PairB b_j[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) b_j[v] = load_pairs(b + 2 * v * W);
    const int64_t a_j = kARows ? 2 * j : j * a_stride;
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) {
      const PairA a_mj = broadcast_pair(a_m[m] + a_j);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) acc[m][v] = dot_pair(acc[m][v], a_mj, b_j[v]);
    }
    b += t.b_stride;
  }
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) {
    float* c_m = t.c + m * t.c_stride;
#pragma GCC unroll 8
    for (int v = 0; v < NV - 1; ++v) acc[m][v].store(c_m + v * W);
    if (last == W) {
      acc[m][NV - 1].store(c_m + (NV - 1) * W);
    } else {
      acc[m][NV - 1].store_n(c_m + (NV - 1) * W, last);
    }
  }
}

template <int MR, int NV, bool kARows>
constexpr PairKernel entry() {
  if constexpr (MR <= kBf16Tile.rows && NV <= kBf16Tile.vectors) return pair_tile<MR, NV, kARows>;
  return nullptr;
}

struct KernelRow {
  PairKernel of[kMaxVectors];
};
struct KernelTable {
  KernelRow of[kMaxRows];
};

template <int MR, bool kARows>
constexpr KernelRow row() {
  return {{entry<MR, 1, kARows>(), entry<MR, 2, kARows>(), entry<MR, 3, kARows>(),
           entry<MR, 4, kARows>()}};
}

template <bool kARows>
constexpr KernelTable table() {
  return {{row<1, kARows>(), row<2, kARows>(), row<3, kARows>(), row<4, kARows>(), row<5, kARows>(),
           row<6, kARows>()}};
}

constexpr KernelTable kKernels[2] = {table<false>(), table<true>()};

}  // namespace

void pair_strip(const PairStrip& t) {
  constexpr int W = Vec::width, kVectors = kBf16Tile.vectors, kPanels = kStripPanels;
  if constexpr (kPanels > 0) {
    const int64_t K2 = t.K2, a_stride = t.a_stride, b_panel = t.b_panel;
    const uint16_t *a = t.a, *b = t.b;
    Vec acc[kPanels * kVectors];
#pragma GCC unroll 8
    for (int i = 0; i < kPanels * kVectors; ++i) acc[i] = Vec::zero();
#pragma GCC unroll 1
    for (int64_t j = 0; j < K2; ++j) {
      const PairA a_j = broadcast_pair(a);
#pragma GCC unroll 8
      for (int i = 0; i < kPanels * kVectors; ++i) {
        const PairB b_j = load_pairs(b + i / kVectors * b_panel + i % kVectors * 2 * W);
        acc[i] = dot_pair(acc[i], a_j, b_j);
      }
      a += a_stride;
      b += 2 * kVectors * W;
    }
#pragma GCC unroll 8
    for (int i = 0; i < kPanels * kVectors; ++i) acc[i].store(t.c + i * W);
  }
}

PairKernel pair_kernel(int rows, int vectors, bool a_rows) {
  return kKernels[a_rows].of[rows - 1].of[vectors - 1];
}

}  // namespace handmill::HM_ISA
