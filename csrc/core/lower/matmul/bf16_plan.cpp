#include "core/lower/matmul/bf16_plan.h"

#include <algorithm>
#include <cmath>

#include "core/lower/blocks.h"
#include "simd/tile_bf16.h"

namespace handmill {
namespace {

// Below this a second thread costs more than it gives (FLOP): twice the figures of float32.
constexpr double kOneBlockFlop = 0.6e6;
constexpr double kSmallFlop = 4.8e6;
// What a block may keep of one operand: half of a small L2.
constexpr int64_t kKeptBytes = 512 * 1024;
// Rows of C of one block: its sums of one panel stay in L2.
constexpr int64_t kMaxBlockRows = 256;
// What a block of packing writes.
constexpr int64_t kPackedHalves = 16384;
// Blocks that keep a few threads busy.
constexpr int64_t kEnoughBlocks = 8;
// Where blocks share B, a larger one is packed once, in a step of its own.
constexpr int64_t kSharedBytes = 32 * 1024;
// K of a slice, at least; tiles (of 6 x 64, at every level) below which K is cut.
constexpr int64_t kSliceK = 512;
constexpr int64_t kTilesPerBlock = 4;

Bf16Tile tile_of(Isa isa) {
  switch (isa) {
    case Isa::avx512_bf16:
      return kBf16TileAvx512Bf16;
    case Isa::avx512:
      return kBf16TileAvx512;
    case Isa::avx2:
      return kBf16TileAvx2;
    default:
      return kBf16TilePortable;
  }
}

int64_t odd_lines(int64_t words) { return ((words + 15) / 16 * 16) | 16; }
int64_t align_bytes(int64_t bytes) { return ceil_div(bytes, 64) * 64; }
int64_t align_halves(int64_t halves) { return ceil_div(halves, 32) * 32; }

int64_t wanted_blocks(double flop) {
  if (flop < kOneBlockFlop) return 1;
  if (flop < kSmallFlop) return static_cast<int64_t>(std::ceil(flop / kOneBlockFlop));
  return static_cast<int64_t>(std::min(32.0, 8.0 * std::sqrt(flop / kSmallFlop)));
}

int64_t slices_of(const MatmulBf16Args& args, int64_t wanted) {
  const int64_t tiles = ceil_div(args.M, 6) * ceil_div(args.N, 64);
  int64_t slices = 1;
  if (tiles >= kTilesPerBlock * wanted) return slices;
  while (slices * 2 <= std::min(wanted, args.K / kSliceK)) slices *= 2;
  return slices;
}

// Whether the blocks cut N alone, so that each copies its own part of B and nobody shares: where
// there are panels enough and A is the smaller operand. Gradients of weights (A read along its
// columns) cut M: their results are large, and whole rows of them are few pages.
bool cuts_columns(const MatmulBf16Args& args, int64_t wanted, int64_t num_panels) {
  const int64_t K = ceil_div(args.K, args.slices);
  const int64_t a_bytes = args.a_layout == Bf16ALayout::kInPlace ? 0 : 2 * args.M * K;
  return args.a_layout != Bf16ALayout::kColumns && num_panels >= std::min(wanted, kEnoughBlocks) &&
         args.M <= kMaxBlockRows && a_bytes <= std::min(kKeptBytes, 2 * args.N * K);
}

void plan_packing(Bf16Plan& plan, MatmulBf16Args& args, int64_t vectors, int width) {
  PackBf16Args& pack = plan.pack;
  pack.b = args.b;
  pack.K = args.K;
  pack.N = args.N;
  pack.panel_vectors = args.panel_vectors;
  const int64_t pairs = ceil_div(args.K, 2), size = 2 * pairs * vectors * width;
  const bool outer = args.b.batch[0] != 0, inner = args.b.batch[1] != 0;
  pack.batch[0] = outer ? args.batch[0] : 1;
  pack.batch[1] = inner ? args.batch[1] : 1;
  pack.packed_batch[1] = inner ? size : 0;
  pack.packed_batch[0] = outer ? size * pack.batch[1] : 0;
  std::copy(pack.packed_batch, pack.packed_batch + 2, args.packed_batch);
  const int64_t num_panels = ceil_div(vectors, args.panel_vectors);
  pack.blocks_n = args.b.col == 1 ? ceil_div(num_panels, 8) : num_panels;
  pack.blocks_k =
      std::clamp<int64_t>(size / pack.blocks_n / kPackedHalves, 1, std::max<int64_t>(1, pairs));
  const int64_t copies = pack.batch[0] * pack.batch[1];
  plan.packed_bytes = align_bytes(std::max<int64_t>(64, 2 * copies * size));
  plan.pack_blocks = copies * pack.blocks_n * pack.blocks_k;
}

}  // namespace

Bf16Plan plan_matmul_bf16(MatmulBf16Args& args, Isa isa, bool constant_b) {
  Bf16Plan plan;
  const Bf16Tile tile = tile_of(isa);
  const int64_t batch = args.batch[0] * args.batch[1];
  args.blocks_m = args.blocks_n = args.slices = 1;
  if (args.M == 0 || args.N == 0 || batch == 0) return plan;

  const bool by_rows = args.a.col == 1 || args.K == 1;
  if (by_rows) {
    const bool in_place = args.a.dtype == Dtype::bfloat16 && args.K % 2 == 0;
    args.a_layout = in_place ? Bf16ALayout::kInPlace : Bf16ALayout::kRows;
  } else {
    args.a_layout = Bf16ALayout::kColumns;
  }
  args.tile_rows = tile.rows;
  args.panel_vectors = tile.vectors;
  const int64_t vectors = ceil_div(args.N, tile.width);
  const int64_t num_tiles = ceil_div(args.M, args.tile_rows);
  const int64_t num_panels = ceil_div(vectors, args.panel_vectors);
  const double flop = 2.0 * static_cast<double>(args.M) * static_cast<double>(args.N) *
                      static_cast<double>(args.K) * static_cast<double>(batch);
  const int64_t wanted = ceil_div(wanted_blocks(flop), batch);
  args.slices = slices_of(args, wanted);

  const int64_t share = args.slices >= kEnoughBlocks ? 1 : ceil_div(wanted, args.slices);
  const bool by_columns = cuts_columns(args, share, num_panels);
  const int64_t b_bytes = 2 * args.N * ceil_div(args.K, args.slices);
  const bool packs = constant_b || (!by_columns && share > 1 && b_bytes > kSharedBytes);
  if (packs) plan_packing(plan, args, vectors, tile.width);
  if (by_columns) {
    args.blocks_n = std::max(share, packs ? 1 : ceil_div(b_bytes, kKeptBytes));
  } else {
    args.blocks_m = std::max(share, ceil_div(args.M, kMaxBlockRows));
    args.blocks_n = ceil_div(share, std::min(args.blocks_m, num_tiles));
    if (!packs) args.blocks_n = std::max(args.blocks_n, ceil_div(b_bytes, kKeptBytes));
  }
  args.blocks_m = std::clamp<int64_t>(args.blocks_m, 1, num_tiles);
  args.blocks_n = std::clamp<int64_t>(args.blocks_n, 1, num_panels);

  const int64_t pairs = ceil_div(ceil_div(args.K, 2), args.slices);
  const int64_t rows =
      std::min(args.M, ceil_div(num_tiles, args.blocks_m) * int64_t{args.tile_rows});
  const int64_t columns =
      ceil_div(num_panels, args.blocks_n) * args.panel_vectors * int64_t{tile.width};
  args.b_scratch = packs ? 0 : align_halves(2 * pairs * columns);
  if (args.a_layout == Bf16ALayout::kRows) {
    args.a_scratch = align_halves(2 * rows * odd_lines(pairs));
  } else if (args.a_layout == Bf16ALayout::kColumns) {
    args.a_scratch = align_halves(2 * pairs * odd_lines(rows));
  } else {
    args.a_scratch = 0;
  }
  args.c_scratch = rows * args.panel_vectors * tile.width;
  plan.scratch_bytes = 2 * (args.a_scratch + args.b_scratch) + 8 * args.c_scratch;
  plan.blocks = batch * args.slices * args.blocks_n * args.blocks_m;

  if (args.slices > 1) {
    plan.partial_bytes = align_bytes(4 * args.slices * batch * args.M * args.N);
    CombineBf16Args& combine = plan.combine;
    combine.epilogue = args.epilogue;
    combine.M = args.M;
    combine.N = args.N;
    combine.slices = args.slices;
    combine.c_dtype = args.c_dtype;
    for (int i = 0; i < 2; ++i) {
      combine.c_batch[i] = args.c_batch[i];
      combine.batch[i] = args.batch[i];
    }
    // A block sums about 16 K floats.
    combine.blocks_m = std::clamp<int64_t>(args.slices * args.M * args.N / 16384, 1, args.M);
    plan.combine_blocks = batch * combine.blocks_m;
    plan.combine_scratch_bytes = 8 * args.N;
  }
  return plan;
}

}  // namespace handmill
