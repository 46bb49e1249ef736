// The register tiles of matmul.
#include "kernels/matmul_tile.h"

namespace handmill::HM_ISA {
namespace {

constexpr int kMaxRows = 6;
constexpr int kMaxVectors = 8;

template <int MR, int NV, bool kARows, bool kMasked>
void register_tile(const RegisterTile& t) {
  compute_tile<MR, NV, kARows, kMasked>(t, [] {});
}

// One row of the table: rows fixed, vectors 1 to kMaxVectors.
struct KernelRow {
  RegisterKernel of[kMaxVectors];
};

template <int MR, int NV, bool kARows, bool kMasked>
constexpr RegisterKernel entry() {
  if constexpr (tile_exists(MR, NV)) return register_tile<MR, NV, kARows, kMasked>;
  return nullptr;
}

template <int MR, bool kARows, bool kMasked>
constexpr KernelRow row() {
  return {{entry<MR, 1, kARows, kMasked>(), entry<MR, 2, kARows, kMasked>(),
           entry<MR, 3, kARows, kMasked>(), entry<MR, 4, kARows, kMasked>(),
           entry<MR, 5, kARows, kMasked>(), entry<MR, 6, kARows, kMasked>(),
           entry<MR, 7, kARows, kMasked>(), entry<MR, 8, kARows, kMasked>()}};
}

struct KernelTable {
  KernelRow of[kMaxRows];
};

template <bool kARows, bool kMasked>
constexpr KernelTable table() {
  return {{row<1, kARows, kMasked>(), row<2, kARows, kMasked>(), row<3, kARows, kMasked>(),
           row<4, kARows, kMasked>(), row<5, kARows, kMasked>(), row<6, kARows, kMasked>()}};
}

constexpr KernelTable kKernels[2][2] = {{table<false, false>(), table<false, true>()},
                                        {table<true, false>(), table<true, true>()}};

}  // namespace

RegisterKernel register_kernel(int rows, int vectors, bool a_rows, bool masked) {
  return kKernels[a_rows][masked].of[rows - 1].of[vectors - 1];
}

}  // namespace handmill::HM_ISA
