#include "kernels/matmul/update.h"

#include "kernels/matmul/tile.h"
#include "kernels/optimizer/updates.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;

// Steps through the vectors of a pending tile.
template <class Rule>
struct Applying {
  const Rule& rule;
  const float* gradient;
  int64_t i;         // in the parameter
  int64_t ahead;     // from there to the place in the next tile
  int64_t row_skip;  // from the end of a row of the tile to the next row
  int64_t vectors, vectors_left_in_row, left;

  HM_INLINE void operator()() {
    if (left == 0) return;
    --left;
    rule.prefetch(i + ahead);
    rule(AllLanes{}, Vec::load(gradient), i, ByDivider{});
    gradient += W;
    i += W;
    if (--vectors_left_in_row == 0) {
      vectors_left_in_row = vectors;
      i += row_skip;
    }
  }
};

template <class Rule, class Args, int MR, int NV, bool kARows>
void updating_tile(const RegisterTile& t, int64_t offset, const Args& args,
                   const PendingTile& before) {
  const Rule rule{args};
  Applying<Rule> applying{rule,
                          before.gradient,
                          before.offset,
                          offset - before.offset,
                          before.row_stride - before.vectors * W,
                          before.vectors,
                          before.vectors,
                          before.rows * before.vectors};
  compute_tile<MR, NV, kARows, false, false>(t, [&applying](const Vec(&)[NV]) { applying(); });
}

template <int MR, int NV, bool kARows>
void updating_adam(const RegisterTile& t, int64_t offset, const UpdateArgs& update,
                   const PendingTile& before) {
  updating_tile<AdamUpdate, AdamArgs, MR, NV, kARows>(t, offset, update.adam, before);
}

template <int MR, int NV, bool kARows>
constexpr UpdatingKernel entry() {
  if constexpr (tile_exists(MR, NV) && Vec::width > 4) return updating_adam<MR, NV, kARows>;
  return nullptr;
}

struct KernelRow {
  UpdatingKernel of[4];
};

template <int MR, bool kARows>
constexpr KernelRow row() {
  return {{entry<MR, 1, kARows>(), entry<MR, 2, kARows>(), entry<MR, 3, kARows>(),
           entry<MR, 4, kARows>()}};
}

constexpr KernelRow kAdam[2][6] = {{row<1, false>(), row<2, false>(), row<3, false>(),
                                    row<4, false>(), row<5, false>(), row<6, false>()},
                                   {row<1, true>(), row<2, true>(), row<3, true>(), row<4, true>(),
                                    row<5, true>(), row<6, true>()}};

}  // namespace

void apply_tile(const UpdateArgs& update, const PendingTile& tile) {
  const int64_t columns = (tile.vectors - 1) * W + tile.last_lanes;
  for (int64_t m = 0; m < tile.rows; ++m) {
    apply_update(update, tile.gradient + m * tile.vectors * W, tile.offset + m * tile.row_stride,
                 columns);
  }
}

UpdatingKernel updating_kernel(UpdateRule rule, int rows, int vectors, bool a_rows) {
  if (rule != UpdateRule::kAdam || vectors > 4 || rows > 6) return nullptr;
  return kAdam[a_rows][rows - 1].of[vectors - 1];
}

}  // namespace handmill::HM_ISA
