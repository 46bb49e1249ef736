// The register tiles of matmul.
#include "kernels/matmul_tile.h"

namespace handmill::HM_ISA {
namespace {

constexpr int kMaxRows = 6;
constexpr int kMaxVectors = 8;

template <int MR, int NV, bool kARows, bool kMasked, bool kHalf>
void register_tile(const RegisterTile& t) {
  compute_tile<MR, NV, kARows, kMasked, kHalf>(t, [] {});
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

}  // namespace

RegisterKernel register_kernel(int rows, int vectors, bool a_rows, bool masked, bool half) {
  if (kHasHalves && half) return kHalfKernels[a_rows].of[rows - 1].of[vectors - 1];
  return kKernels[a_rows][masked].of[rows - 1].of[vectors - 1];
}

}  // namespace handmill::HM_ISA
