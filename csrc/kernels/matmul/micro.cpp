// The register tiles of matmul.
#include <utility>

#include "kernels/matmul/tile.h"

namespace handmill::HM_ISA {
namespace {

constexpr int kMaxRows = 8;
constexpr int kMaxVectors = 8;

template <int MR, int NV, bool kARows, bool kMasked, bool kHalf>
void register_tile(const RegisterTile& t) {
  compute_tile<MR, NV, kARows, kMasked, kHalf>(t, [](const Vec(&)[NV]) {});
}

// Two prefetches for a line that two vectors may share, since rows of b need not be aligned.
template <int NV>
HM_INLINE void fetch_row(const float* row) {
  constexpr int kFloats = NV * Vec::width;
#pragma GCC unroll 8
  for (int n = 0; n < kFloats; n += 16) __builtin_prefetch(row + n);
  __builtin_prefetch(row + kFloats - 1);
}

template <int MR, int NV, bool kMasked>
void storing_tile(const RegisterTile& t) {
  constexpr int W = Vec::width;
  const float* ahead = t.b + t.rows_ahead * t.b_stride;
  float* copy = t.b_copy;
  compute_tile<MR, NV, true, kMasked, false>(t, [&](const Vec(&b_k)[NV]) {
    fetch_row<NV>(ahead);
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) b_k[v].store(copy + v * W);
    ahead += t.b_stride;
    copy += NV * W;
  });
}

template <int MR, int NV, bool kMasked>
void fetching_tile(const RegisterTile& t) {
  const float* ahead = t.b + t.rows_ahead * t.b_stride;
  compute_tile<MR, NV, true, kMasked, false>(t, [&](const Vec(&)[NV]) {
    fetch_row<NV>(ahead);
    ahead += t.b_stride;
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
           row<5, kARows, kMasked, kHalf>(), row<6, kARows, kMasked, kHalf>(),
           row<7, kARows, kMasked, kHalf>(), row<8, kARows, kMasked, kHalf>()}};
}

// With mask registers a masked load costs what a plain one does: one kernel does for both kinds of
// b, which is a third of this file's compile time.
constexpr bool kMaskIsFree = Vec::width == 16;
constexpr KernelTable kKernels[2][2] = {
    {table<false, kMaskIsFree, false>(), table<false, true, false>()},
    {table<true, kMaskIsFree, false>(), table<true, true, false>()}};
// Where half a vector costs half.
constexpr bool kHasHalves = Vec::width == 16;
constexpr KernelTable kHalfKernels[2] = {table<false, false, kHasHalves>(),
                                         table<true, false, kHasHalves>()};

// Vectors from 2.
struct FirstTileTable {
  RegisterKernel of[kMaxRows][3];
};

template <int MR, int NV, bool kMasked>
constexpr RegisterKernel storing_entry() {
  if constexpr (MR >= 3 && tile_exists(MR, NV)) return storing_tile<MR, NV, kMasked>;
  return nullptr;
}

template <int MR, int NV, bool kMasked>
constexpr RegisterKernel fetching_entry() {
  if constexpr (tile_exists(MR, NV)) return fetching_tile<MR, NV, kMasked>;
  return nullptr;
}

template <bool kMasked>
constexpr FirstTileTable storing_table() {
  FirstTileTable table{};
  const auto fill = [&]<int... MR>(std::integer_sequence<int, MR...>) {
    ((table.of[MR][0] = storing_entry<MR + 1, 2, kMasked>()), ...);
    ((table.of[MR][1] = storing_entry<MR + 1, 3, kMasked>()), ...);
    ((table.of[MR][2] = storing_entry<MR + 1, 4, kMasked>()), ...);
  };
  fill(std::make_integer_sequence<int, kMaxRows>());
  return table;
}

template <bool kMasked>
constexpr FirstTileTable fetching_table() {
  FirstTileTable table{};
  const auto fill = [&]<int... MR>(std::integer_sequence<int, MR...>) {
    ((table.of[MR][0] = fetching_entry<MR + 1, 2, kMasked>()), ...);
    ((table.of[MR][1] = fetching_entry<MR + 1, 3, kMasked>()), ...);
    ((table.of[MR][2] = fetching_entry<MR + 1, 4, kMasked>()), ...);
  };
  fill(std::make_integer_sequence<int, kMaxRows>());
  return table;
}

constexpr FirstTileTable kStoring[2] = {storing_table<kMaskIsFree>(), storing_table<true>()};
constexpr FirstTileTable kFetching[2] = {fetching_table<kMaskIsFree>(), fetching_table<true>()};

}  // namespace

RegisterKernel storing_kernel(int rows, int vectors, bool masked) {
  return vectors < 2 || vectors > 4 ? nullptr : kStoring[masked].of[rows - 1][vectors - 2];
}

RegisterKernel fetching_kernel(int rows, int vectors, bool masked) {
  return vectors < 2 || vectors > 4 ? nullptr : kFetching[masked].of[rows - 1][vectors - 2];
}

RegisterKernel register_kernel(int rows, int vectors, bool a_rows, bool masked, bool half) {
  if (kHasHalves && half) return kHalfKernels[a_rows].of[rows - 1].of[vectors - 1];
  return kKernels[a_rows][masked].of[rows - 1].of[vectors - 1];
}

}  // namespace handmill::HM_ISA
