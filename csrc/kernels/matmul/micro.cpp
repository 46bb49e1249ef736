// The register tiles of matmul.
#include "kernels/matmul/tile.h"

namespace handmill::HM_ISA {
namespace {

constexpr int kMaxRows = 6;
constexpr int kMaxVectors = 8;
// Rows of b that a storing kernel fetches ahead. avx2: 12 some 5 % slower, 24 and 96 no faster.
constexpr int64_t kStoringAhead = 48;

template <int MR, int NV, bool kARows, bool kMasked, bool kHalf>
void register_tile(const RegisterTile& t) {
  compute_tile<MR, NV, kARows, kMasked, kHalf>(t, [](const Vec(&)[NV]) {});
}

// Two prefetches for a line that two vectors may share, since rows of b need not be aligned.
template <int MR, int NV, bool kMasked>
void storing_tile(const RegisterTile& t) {
  constexpr int W = Vec::width;
  const float* ahead = t.b + kStoringAhead * t.b_stride;
  float* copy = t.b_copy;
  compute_tile<MR, NV, true, kMasked, false>(t, [&](const Vec(&b_k)[NV]) {
#pragma GCC unroll 8
    for (int n = 0; n < NV * W; n += 16) __builtin_prefetch(ahead + n);
    __builtin_prefetch(ahead + NV * W - 1);
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) b_k[v].store(copy + v * W);
    ahead += t.b_stride;
    copy += NV * W;
  });
}

// One row of the table: rows fixed, vectors 1 to kMaxVectors.
struct KernelRow {
  RegisterKernel of[kMaxVectors];
};

template <int MR, int NV, bool kARows, bool kMasked, bool kHalf>
constexpr RegisterKernel entry() {
  if constexpr (tile_exists(MR, NV)) return register_tile<MR, NV, kARows, kMasked, kHalf>;
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

// Rows from 3, vectors from 2.
struct StoringTable {
  RegisterKernel of[kMaxRows - 2][3];
};

template <int MR, int NV, bool kMasked>
constexpr RegisterKernel storing_entry() {
  if constexpr (tile_exists(MR, NV)) return storing_tile<MR, NV, kMasked>;
  return nullptr;
}

template <bool kMasked>
constexpr StoringTable storing_table() {
  return {{{storing_entry<3, 2, kMasked>(), storing_entry<3, 3, kMasked>(),
            storing_entry<3, 4, kMasked>()},
           {storing_entry<4, 2, kMasked>(), storing_entry<4, 3, kMasked>(),
            storing_entry<4, 4, kMasked>()},
           {storing_entry<5, 2, kMasked>(), storing_entry<5, 3, kMasked>(),
            storing_entry<5, 4, kMasked>()},
           {storing_entry<6, 2, kMasked>(), storing_entry<6, 3, kMasked>(),
            storing_entry<6, 4, kMasked>()}}};
}

constexpr StoringTable kStoring[2] = {storing_table<false>(), storing_table<true>()};

}  // namespace

RegisterKernel storing_kernel(int rows, int vectors, bool masked) {
  if (rows < 3 || vectors < 2 || vectors > 4) return nullptr;
  return kStoring[masked].of[rows - 3][vectors - 2];
}

RegisterKernel register_kernel(int rows, int vectors, bool a_rows, bool masked, bool half) {
  if (kHasHalves && half) return kHalfKernels[a_rows].of[rows - 1].of[vectors - 1];
  return kKernels[a_rows][masked].of[rows - 1].of[vectors - 1];
}

}  // namespace handmill::HM_ISA
