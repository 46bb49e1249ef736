#include "core/lower/convolution/winograd.h"

#include <algorithm>

#include "core/lower/blocks.h"
#include "core/lower/matmul/numbers.h"

namespace handmill {
namespace {

constexpr int64_t kPoints = 16;  // of a transformed tile
// Channels and filters below which the transforms cost more than the products that they save.
constexpr int64_t kFewChannels = 16;
// A block holds about so many channels of so many tiles at a time, transformed, and the products of
// these tiles: L2 has room for them beside the kernel that streams by. Of a kernel of more elements
// than the first, a block takes columns with as many as the second, and 128 at most.
constexpr int64_t kDepth = 128;
constexpr int64_t kMostTiles = 48;
constexpr int64_t kWholeKernel = 16 * 1024;
constexpr int64_t kPartKernel = 32 * 1024;
constexpr int64_t kPartColumns = 128;
// What the number of tiles is a multiple of: rows of register tiles, and two.
constexpr int64_t kTileStep = 12;
// Tiles of a chunk of a kernel's gradient, and sums that stay in cache while chunks go by.
constexpr int64_t kChunkTiles = 48;
constexpr int64_t kSums = 256 * 1024;
constexpr int64_t kRowsAtOnce = 8;  // of a kernel, as its transform takes them
constexpr double kBlockFlop = 0.3e6;
constexpr int64_t kManyBlocks = 32;
constexpr int64_t kBytes = 4;

int64_t lines(int64_t floats) { return round_up(floats * kBytes, 64); }

// As the kernels' odd_lines.
int64_t odd_row(int64_t floats) { return round_up(floats, 16) | 16; }

int64_t tiles_of(const ConvGeometry& shape) {
  return shape.images * ceil_div(shape.axis[0].target, 2) * ceil_div(shape.axis[1].target, 2);
}

double point_flops(const ConvGeometry& shape) {
  return 2.0 * kPoints * static_cast<double>(tiles_of(shape)) *
         static_cast<double>(shape.depth * shape.columns);
}

int32_t even_panel(int64_t vectors, const MatmulTile& tile) {
  return static_cast<int32_t>(ceil_div(vectors, ceil_div(vectors, tile.vectors)));
}

int64_t wanted_blocks(double flops, int64_t most) {
  return std::clamp<int64_t>(static_cast<int64_t>(flops / kBlockFlop), 1, most);
}

}  // namespace

bool is_for_winograd(const ConvGeometry& shape) {
  for (const ConvAxis& axis : shape.axis) {
    if (axis.kernel != 3 || axis.stride != 1 || axis.dilation != 1 || axis.target < 2) return false;
  }
  return shape.groups == 1 && shape.depth >= kFewChannels && shape.columns >= kFewChannels;
}

ConvGeometry turned_geometry(ConvGeometry shape) {
  for (ConvAxis& axis : shape.axis) axis.before = axis.kernel - 1 - axis.before;
  shape.classes[0] = shape.classes[1] = 1;
  return shape;
}

void lower_winograd(LaunchWriter& writer, const ConvGeometry& shape, const ValueView& source,
                    const ValueView& w, const ValueView& c, bool transposed,
                    const MatmulEpilogue& epilogue, const EpilogueOperands& operands) {
  const MatmulTile& tile = kFloat32Numbers.tile(writer.isa());
  const int64_t K = shape.depth, N = shape.columns, vectors = ceil_div(N, tile.width);
  WinogradArgs args{};
  args.shape = shape;
  args.epilogue = epilogue;
  args.panel_vectors = even_panel(vectors, tile);
  args.kernel = transposed ? SmallKernel{nullptr, 8 * K * N, -K * N, 1, K}
                           : SmallKernel{nullptr, 0, K * N, N, 1};
  const int64_t panels = ceil_div(vectors, args.panel_vectors);

  WinogradKernelArgs kernel{};
  kernel.kernel = args.kernel;
  kernel.K = K;
  kernel.N = N;
  kernel.panel_vectors = args.panel_vectors;
  kernel.blocks_n = panels;
  kernel.blocks_k = std::clamp<int64_t>(kPoints * K * N / panels / (8 * kBlockElements), 1, K);
  const int64_t packed_floats = kPoints * K * vectors * tile.width;
  const Ref packed = writer.workspace(lines(packed_floats));
  writer.read(&kernel.kernel.w, w);
  writer.write(&kernel.packed, packed);
  writer.add<Kernel::winograd_kernel>(
      kernel, {.blocks = kernel.blocks_n * kernel.blocks_k,
               .scratch = kBytes * 9 * kRowsAtOnce * args.panel_vectors * tile.width,
               .flops = 28.0 * static_cast<double>(K * N),
               .pack = !transposed && w.is_stable});

  const double flops = point_flops(shape);
  const int64_t wanted = wanted_blocks(flops, kManyBlocks);
  const int64_t tiles = tiles_of(shape);
  args.blocks_n = 1;
  if (K * N > kWholeKernel) {
    const int64_t columns = std::clamp<int64_t>(kPartKernel / K, 64, kPartColumns);
    args.blocks_n = std::clamp<int64_t>(ceil_div(N, columns), 1, panels);
  }
  args.depth_chunk = round_up(ceil_div(K, std::max<int64_t>(1, (K + kDepth / 2) / kDepth)), 16);
  const int64_t row = odd_row(args.depth_chunk);
  args.tiles_per_block = kMostTiles;
  const auto count = [&] {
    args.tile_blocks = ceil_div(tiles, args.tiles_per_block);
    return args.tile_blocks * args.blocks_n;
  };
  while (count() * 2 <= wanted && args.tiles_per_block > kTileStep) {
    args.tiles_per_block -= kTileStep;
  }
  if (count() < wanted)
    args.blocks_n = std::clamp(wanted / args.tile_blocks, args.blocks_n, panels);
  args.product_columns = args.panel_vectors * tile.width;
  if (args.depth_chunk < K) args.product_columns *= ceil_div(panels, args.blocks_n);
  const int64_t scratch =
      kBytes * (odd_row(K) + kPoints * args.tiles_per_block * (row + args.product_columns)) +
      16 * args.tiles_per_block;
  writer.read(&args.source, source);
  writer.read(&args.kernel.w, w);
  writer.read(&args.packed, packed);
  writer.write(&args.c, c);
  bind_epilogue(writer, args.epilogue, operands, 0, c.size());
  writer.add<Kernel::winograd>(args, {.blocks = count(), .scratch = scratch, .flops = flops});
}

void lower_winograd_grad(LaunchWriter& writer, const ConvGeometry& shape, const ValueView& x,
                         const ValueView& dy, const ValueView& dw) {
  const MatmulTile& tile = kFloat32Numbers.tile(writer.isa());
  const int64_t vectors = ceil_div(shape.columns, tile.width);
  WinogradGradArgs args{};
  args.shape = shape;
  args.panel_vectors = even_panel(vectors, tile);
  const int64_t panels = ceil_div(vectors, args.panel_vectors);
  // Parts whose sums stay in cache: channels and filters are halved in turns.
  args.depth_part = shape.depth;
  args.blocks_n = 1;
  while (kPoints * args.depth_part * ceil_div(shape.columns, args.blocks_n) > kSums) {
    if (args.depth_part > ceil_div(shape.columns, args.blocks_n) || args.blocks_n == panels) {
      args.depth_part = round_up(ceil_div(args.depth_part, 2), 16);
    } else {
      args.blocks_n = std::min(panels, 2 * args.blocks_n);
    }
  }
  args.parts = ceil_div(shape.depth, args.depth_part);
  const double flops = point_flops(shape);
  const int64_t tiles = tiles_of(shape), blocks = args.parts * args.blocks_n;
  args.slices = std::clamp<int64_t>(ceil_div(wanted_blocks(flops, kManyBlocks / 4), blocks), 1,
                                    ceil_div(tiles, kChunkTiles));
  args.tiles_per_chunk = std::min(kChunkTiles, ceil_div(tiles, args.slices));
  const int64_t b_row = odd_row(ceil_div(panels, args.blocks_n) * args.panel_vectors * tile.width);
  const int64_t scratch =
      kBytes * (odd_row(std::max(shape.depth, shape.columns)) +
                kPoints * args.tiles_per_chunk * (odd_row(args.depth_part) + b_row)) +
      16 * args.depth_part;
  const Ref sums = writer.workspace(lines(args.slices * kPoints * shape.depth * shape.columns));
  writer.read(&args.source, x);
  writer.read(&args.dy, dy);
  writer.write(&args.sums, sums);
  writer.add<Kernel::winograd_grad>(
      args, {.blocks = blocks * args.slices, .scratch = scratch, .flops = flops});

  WinogradFinishArgs finish{};
  finish.shape = shape;
  finish.slices = args.slices;
  const int64_t terms = kPoints * args.slices * shape.depth * shape.columns;
  finish.blocks = std::clamp<int64_t>(terms / (4 * kBlockElements), 1, shape.depth);
  writer.read(&finish.source, x);
  writer.read(&finish.dy, dy);
  writer.read(&finish.sums, sums);
  writer.write(&finish.dw, dw);
  // x and dy are read where sums are not finite alone.
  writer.add<Kernel::winograd_finish>(finish, {.blocks = finish.blocks,
                                               .flops = static_cast<double>(terms),
                                               .bytes_read = static_cast<double>(kBytes * terms)});
}

}  // namespace handmill
