// The register tiles of the bfloat16 matmul: chains of pair products in MR x NV accumulators.
#include "kernels/matmul/bf16_parts.h"
#include "simd/bf16_dot.h"
#include "simd/tile.h"

namespace handmill::HM_ISA {
namespace {

constexpr int kMaxRows = 6;
constexpr int kMaxVectors = 4;

// Pairs of a tile of A, which are split where they are read.
template <int MR, bool kARows>
struct TileOfA {
  const uint16_t* row[MR];
  int64_t stride;

  HM_INLINE explicit TileOfA(const PairTile& t) : stride(t.a_stride) {
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) row[m] = t.a + (kARows ? m * stride : 2 * m);
  }
  HM_INLINE PairA pair(int m, int64_t j) const {
    return broadcast_pair(row[m] + (kARows ? 2 * j : j * stride));
  }
};

#if defined(HM_ISA_AVX2)
// Rows are split once: the shifts would wait for the ports that the products need. The first and
// the second numbers of all pairs lie apart.
template <int MR>
  requires(MR > 1)
struct TileOfA<MR, true> {
  alignas(64) float numbers[MR][2][kPairsAtOnce];

  HM_INLINE explicit TileOfA(const PairTile& t) {
    constexpr int W = Vec::width;
    for (int m = 0; m < MR; ++m) {
      const uint16_t* a = t.a + m * t.a_stride;
      int64_t j = 0;
      for (; j + W <= t.K2; j += W) {
        const PairB pairs = load_pairs(a + 2 * j);
        pairs.first.store(numbers[m][0] + j);
        pairs.second.store(numbers[m][1] + j);
      }
      for (; j < t.K2; ++j) {
        uint32_t word;
        std::memcpy(&word, a + 2 * j, sizeof word);
        numbers[m][0][j] = __builtin_bit_cast(float, word << 16);
        numbers[m][1][j] = __builtin_bit_cast(float, word & 0xffff0000u);
      }
    }
  }
  HM_INLINE PairA pair(int m, int64_t j) const {
    return {Vec::broadcast(numbers[m][0][j]), Vec::broadcast(numbers[m][1][j])};
  }
};
#endif

template <int MR, int NV, bool kARows>
void pair_tile(const PairTile& t) {
  constexpr int W = Vec::width;
  const int64_t K2 = t.K2, last = t.last_lanes;
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
  const TileOfA<MR, kARows> a(t);
  const uint16_t* b = t.b;
#pragma GCC unroll 1
  for (int64_t j = 0; j < K2; ++j) {
    PairB b_j[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) b_j[v] = load_pairs(b + 2 * v * W);
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) {
      const PairA a_mj = a.pair(m, j);
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
