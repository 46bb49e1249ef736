// The register tiles of matmul: sums of outer products in MR x NV accumulators.
#include "kernels/matmul_micro.h"

namespace handmill::HM_ISA {
namespace {

constexpr int kMaxRows = 6;
constexpr int kMaxVectors = 8;

// Accumulators, NV vectors of b and one of a fit the register file: 32 registers at avx512 (a is
// broadcast from memory inside the fma), 16 elsewhere.
constexpr bool exists(int rows, int vectors) {
  if (rows == 1) return true;
#if defined(HM_ISA_AVX512)
  return rows * vectors <= 24 && (vectors <= 4 || rows <= 2);
#elif defined(HM_ISA_AVX2)
  return rows * vectors <= 12 && vectors <= 4 && (vectors + 1) * (rows + 1) <= 21;
#else  // a product needs one more
  return rows * vectors <= 8 && vectors <= 2;
#endif
}

template <int MR, int NV, bool kARows, bool kMasked, bool kHalf>
void register_tile(const RegisterTile& t) {
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
  if constexpr (kMatmulTile.fetches_next_panel) {
    for (const float* line = t.next_b; line < t.next_b_end; line += 16) {
      __builtin_prefetch(line, 0, 2);
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
    const int64_t a_k = kARows ? k : k * a_stride;
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) {
      const Vec a_mk = Vec::broadcast(a_m[m][a_k]);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        acc[m][v] =
            kHalf && v == NV - 1 ? fma_low(a_mk, b_k[v], acc[m][v]) : fma(a_mk, b_k[v], acc[m][v]);
      }
    }
    b += b_stride;
  }

  if (t.add_to_c) {
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) {
      const float* c_m = t.c + m * t.c_stride;
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        acc[m][v] =
            acc[m][v] + (v == NV - 1 ? Vec::load_n(c_m + v * W, last) : Vec::load(c_m + v * W));
      }
    }
  }
  if (t.bias != nullptr) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      const Vec bias = v == NV - 1 ? Vec::load_n(t.bias + v * W, last) : Vec::load(t.bias + v * W);
#pragma GCC unroll 8
      for (int m = 0; m < MR; ++m) acc[m][v] = acc[m][v] + bias;
    }
  }
  if (t.relu) {
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) acc[m][v] = at_least(acc[m][v], Vec::zero());
    }
  }
  // Whole vectors apart: a masked store costs several plain ones at avx2.
  const bool whole = last == W;
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) {
    float* c_m = t.c + m * t.c_stride;
#pragma GCC unroll 8
    for (int v = 0; v < NV - 1; ++v) acc[m][v].store(c_m + v * W);
    if (whole) {
      acc[m][NV - 1].store(c_m + (NV - 1) * W);
    } else {
      acc[m][NV - 1].store_n(c_m + (NV - 1) * W, last);
    }
  }
}

// One row of the table: rows fixed, vectors 1 to kMaxVectors.
struct KernelRow {
  RegisterKernel of[kMaxVectors];
};

template <int MR, int NV, bool kARows, bool kMasked, bool kHalf>
constexpr RegisterKernel entry() {
  if constexpr (exists(MR, NV)) return register_tile<MR, NV, kARows, kMasked, kHalf>;
  return nullptr;
}

template <int MR, bool kARows, bool kMasked, bool kHalf>
constexpr KernelRow row() {
  return {{entry<MR, 1, kARows, kMasked, kHalf>(), entry<MR, 2, kARows, kMasked, kHalf>(),
           entry<MR, 3, kARows, kMasked, kHalf>(), entry<MR, 4, kARows, kMasked, kHalf>(),
           entry<MR, 5, kARows, kMasked, kHalf>(), entry<MR, 6, kARows, kMasked, kHalf>(),
           entry<MR, 7, kARows, kMasked, kHalf>(), entry<MR, 8, kARows, kMasked, kHalf>()}};
}

struct KernelTable {
  KernelRow of[kMaxRows];
};

template <bool kARows, bool kMasked, bool kHalf>
constexpr KernelTable table() {
  return {{row<1, kARows, kMasked, kHalf>(), row<2, kARows, kMasked, kHalf>(),
           row<3, kARows, kMasked, kHalf>(), row<4, kARows, kMasked, kHalf>(),
           row<5, kARows, kMasked, kHalf>(), row<6, kARows, kMasked, kHalf>()}};
}

constexpr KernelTable kKernels[2][2] = {{table<false, false, false>(), table<false, true, false>()},
                                        {table<true, false, false>(), table<true, true, false>()}};
// Where half a vector costs half.
constexpr bool kHasHalves = Vec::width == 16;
constexpr KernelTable kHalfKernels[2] = {table<false, false, kHasHalves>(),
                                         table<true, false, kHasHalves>()};

}  // namespace

RegisterKernel register_kernel(int rows, int vectors, bool a_rows, bool masked, bool half) {
  if (kHasHalves && half) return kHalfKernels[a_rows].of[rows - 1].of[vectors - 1];
  return kKernels[a_rows][masked].of[rows - 1].of[vectors - 1];
}

}  // namespace handmill::HM_ISA
