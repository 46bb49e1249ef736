#include "kernels/matmul/narrow.h"

#include "kernels/matmul/micro.h"
#include "kernels/matmul/parts.h"
#include "kernels/optimizer/apply_update.h"

namespace handmill::HM_ISA {

void update_narrow(const NarrowGradient& p, const UpdateArgs& update) {
  constexpr int W = Vec::width;
  constexpr int64_t kRoom = kMatmulTile.vectors * W;  // columns of dY^T X at a time
  alignas(64) float turned[kMostNarrowColumns * kRoom];
  alignas(64) float gradient[kMostNarrowColumns * kRoom];
  const int64_t num_tiles = ceil_div(p.N, kMatmulTile.narrow_rows);
  const Split tiles(p.N, num_tiles);
  // Register tiles of narrow_rows rows hold fewer vectors at some levels.
  const int64_t step = (tiles.at(1) <= kMatmulTile.rows ? kMatmulTile.vectors : 2) * W;
  for (int64_t m = 0; m < p.M; m += step) {
    const int64_t rows = p.M - m < step ? p.M - m : step;
    const int vectors = static_cast<int>(ceil_div(rows, W));
    RegisterTile tile{};
    tile.b = p.x + m;
    tile.b_stride = p.x_stride;
    tile.a_stride = p.dy_stride;
    tile.c_stride = kRoom;
    tile.K = p.K;
    tile.last_lanes = rows - (vectors - 1) * W;
    for (int64_t i = 0; i < num_tiles; ++i) {
      const int64_t n = tiles.at(i);
      tile.a = p.dy + n;
      tile.c = turned + n * kRoom;
      register_kernel(static_cast<int>(tiles.at(i + 1) - n), vectors, false, tile.last_lanes != W,
                      tile.last_lanes <= W / 2)(tile);
    }
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t n = 0; n < p.N; ++n) gradient[r * p.N + n] = turned[n * kRoom + r];
    }
    apply_update(update, gradient, p.offset + m * p.N, rows * p.N);
  }
}

}  // namespace handmill::HM_ISA
