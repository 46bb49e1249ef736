// Convolutions, and their gradients, over lines and images with channels last.
#include <algorithm>

#include "core/lower/blocks.h"
#include "core/lower/builder.h"
#include "core/lower/convolution/winograd.h"
#include "core/lower/matmul/epilogue.h"
#include "core/lower/matmul/numbers.h"
#include "core/lower/strided.h"
#include "kernels/convolution/taps.h"

namespace handmill {
namespace {

constexpr int64_t kFloatBytes = 4;  // bytes
// Positions of one block, whose sums of one panel, and what they read, stay in L2.
constexpr int64_t kBlockPositions = 224;
// What they read at most, where windows are strided: half of a small L2; of those of machines with
// avx512 as much as ever.
constexpr int64_t kRegionBytes = 256 * 1024;
constexpr int64_t kLargeRegionBytes = 1024 * 1024;
// Longest chain of products of one sum: a panel of as many rows stays in L2.
constexpr int64_t kChunk = 640;
// Positions of a chunk of a kernel's gradient.
constexpr int64_t kChunkPositions = 256;
// Elements of a kernel's gradient that stay in L2 while positions go by.
constexpr int64_t kKeptSums = 96 * 1024;
// Channels of which parts of a kernel's gradient are multiples: a cache line of each position; and
// filters of a part at least. The same at all levels, whose sums then have the same order.
constexpr int64_t kDepthStep = 16;
constexpr int64_t kFilterStep = 64;
// FLOP that are worth another block, and blocks that keep many threads busy.
constexpr double kConvBlockFlop = 0.3e6;
constexpr int64_t kManyConvBlocks = 32;
// Channels of a block of a depthwise kernel's gradient: so long a run of memory is read well.
constexpr int64_t kDepthwiseGradChannels = 128;

// The geometry that attributes and shapes say: `source` is what windows lie over.
ConvGeometry geometry_of(const NodeView& node, const ValueView& source, const ValueView& target,
                         std::span<const int64_t> kernel, bool transposed) {
  const int spatial = source.rank() - 2;
  require(spatial == 1 || spatial == 2, node.kernel(), ": lines or images are needed");
  const std::span<const int64_t> strides = node.ints("strides"), padding = node.ints("padding"),
                                 dilation = node.ints("dilation");
  ConvGeometry shape{};
  shape.images = source.dim(0);
  shape.source_channels = source.dim(-1);
  shape.target_channels = target.dim(-1);
  shape.groups = node.i64("groups");
  shape.depth = shape.source_channels / shape.groups;
  shape.columns = shape.target_channels / shape.groups;
  shape.axis[0] = {1, 1, 1, 1, 1, 0};
  for (int i = 0; i < spatial; ++i) {
    const size_t at = static_cast<size_t>(i);
    shape.axis[i + 2 - spatial] = {source.dim(i + 1), target.dim(i + 1), kernel[at],
                                   strides[at],       dilation[at],      padding[2 * at]};
  }
  for (int i = 0; i < 2; ++i) {
    shape.classes[i] = transposed ? std::min(shape.axis[i].stride, shape.axis[i].target) : 1;
  }
  return shape;
}

// How far windows reach: whether beyond the source, and over how many positions at most, for runs
// of `run` targets of a class.
struct Cover {
  bool is_inside = true;
  int64_t extent = 0;
};

Cover cover_of(const ConvAxis& axis, bool transposed, int64_t run) {
  Cover cover;
  const int64_t classes = transposed ? std::min(axis.stride, axis.target) : 1;
  for (int64_t first = 0; first < classes; ++first) {
    const Taps taps{axis, transposed, first};
    const Reach all = taps.reach(0, taps.targets());
    const Reach part = taps.reach(0, std::min(run, taps.targets()));
    cover.is_inside = cover.is_inside && all.begin >= 0 && all.end <= axis.source;
    cover.extent = std::max(cover.extent, part.size());
  }
  return cover;
}

int64_t whole_lines(int64_t bytes) { return round_up(bytes, 64); }

// Panels of B, the kernel as one matrix a group: rows are taps and channels.
Ref add_packing(LaunchWriter& writer, const Ref& w, int64_t K, const ConvGeometry& shape,
                int32_t panel_vectors, int width, bool transposed, bool constant,
                int64_t& packed_group) {
  const int64_t vectors = ceil_div(shape.columns, width);
  packed_group = K * vectors * width;
  MatmulPackArgs pack{};
  if (transposed) {  // each tap lies as a matrix of (channels of dx, filters of all groups)
    pack.b.row = 1;
    pack.b.col = shape.source_channels;
    pack.b.batch[0] = shape.depth;
    pack.run = shape.depth;
    pack.run_step = shape.columns * shape.source_channels;
  } else {
    pack.b.row = shape.target_channels;
    pack.b.col = 1;
    pack.b.batch[0] = shape.columns;
  }
  pack.b.dtype = Dtype::float32;
  pack.K = K;
  pack.N = shape.columns;
  pack.panel_vectors = panel_vectors;
  pack.batch[0] = shape.groups;
  pack.batch[1] = 1;
  pack.packed_batch[0] = packed_group;
  const int64_t panels = ceil_div(vectors, panel_vectors);
  pack.blocks_n = ceil_div(panels, kFloat32Numbers.pack_panels);
  pack.blocks_k = std::clamp<int64_t>(packed_group / pack.blocks_n / kFloat32Numbers.pack_words, 1,
                                      std::max<int64_t>(1, K));
  const Ref packed = writer.workspace(
      whole_lines(std::max<int64_t>(1, kFloatBytes * shape.groups * packed_group)));
  if (K == 0) return packed;
  writer.read(&pack.b.data, w);
  writer.write(&pack.packed, packed);
  writer.add<Kernel::pack_b>(
      pack, {.blocks = shape.groups * pack.blocks_n * pack.blocks_k, .pack = constant});
  return packed;
}

// Sums of nothing.
void add_empty_sums(LaunchWriter& writer, const ValueView& c) {
  Strided axes;
  axes.push(c.size(), 0, 1);
  copy_strided(writer, c, nullptr, axes, kFloatBytes);
}

int32_t panel_vectors_of(const MatmulTile& tile, int64_t vectors) {
  const int64_t panels = ceil_div(vectors, tile.vectors);
  return static_cast<int32_t>(ceil_div(vectors, panels));
}

double conv_flops(const ConvGeometry& shape, bool transposed) {
  double flops =
      2.0 * static_cast<double>(shape.images * shape.groups * shape.depth * shape.columns);
  for (const ConvAxis& axis : shape.axis) {
    flops *= static_cast<double>((transposed ? axis.source : axis.target) * axis.kernel);
  }
  return flops;
}

// dw = the sum of its slices, in order.
void add_slices(LaunchWriter& writer, const Ref& partial, int64_t slices, const ValueView& dw,
                int width) {
  MatmulCombineArgs combine{};
  combine.N = combine.c_row = dw.dim(-1);
  combine.M = dw.size() / combine.N;
  combine.slices = slices;
  combine.c_dtype = Dtype::float32;
  combine.batch[0] = combine.batch[1] = 1;
  const int64_t pieces = std::max<int64_t>(1, slices * dw.size() / 16384);
  combine.blocks_m = std::min(combine.M, pieces);
  combine.blocks_n = std::min(ceil_div(combine.N, width), ceil_div(pieces, combine.blocks_m));
  writer.read(&combine.partial, partial);
  writer.write(&combine.c, dw);
  writer.add<Kernel::matmul_combine>(combine,
                                     {.blocks = combine.blocks_m * combine.blocks_n,
                                      .flops = static_cast<double>((slices - 1) * dw.size())});
}

// What a kernel's gradient reads and writes, in elements.
struct GradSizes {
  int64_t source, dy, dw;
};

// The cut into about `wanted` blocks whose sums stay in cache that moves least: each part of the
// channels reads dy, each part of the filters copies the source, each slice of the positions is
// written and read once more. Too few blocks weigh as what they keep from working.
void cut_kernel_grad(ConvKernelGradArgs& args, int64_t wanted, int64_t chunks,
                     const GradSizes& sizes) {
  const ConvGeometry& shape = args.shape;
  const int64_t taps = shape.axis[0].kernel * shape.axis[1].kernel;
  int64_t least = -1;
  for (int64_t most = ceil_div(shape.depth, kDepthStep); most > 0; --most) {
    const int64_t depth_part =
        std::min(shape.depth, kDepthStep * even_part(ceil_div(shape.depth, kDepthStep), most));
    const int64_t parts = ceil_div(shape.depth, depth_part);
    for (int64_t blocks_n = 1; blocks_n <= ceil_div(shape.columns, kFilterStep); ++blocks_n) {
      const int64_t blocks = parts * blocks_n * shape.groups;
      const int64_t slices = std::clamp<int64_t>(ceil_div(wanted, blocks), 1, chunks);
      const int64_t sums = taps * depth_part * ceil_div(shape.columns, blocks_n);
      const int64_t kept = ceil_div(sums, kKeptSums);  // 1: they stay in cache
      const int64_t moved =
          (parts * sizes.dy + 2 * blocks_n * sizes.source +
           (slices > 1 ? 2 * slices : 1) * sizes.dw + 2 * (kept - 1) * chunks * sizes.dw) *
          ceil_div(wanted, std::min(wanted, blocks * slices));
      if (least >= 0 && moved >= least) continue;
      least = moved;
      args.parts = parts;
      args.depth_part = depth_part;
      args.blocks_n = blocks_n;
      args.slices = slices;
    }
  }
}

// One filter for each channel.
bool is_depthwise(const ConvGeometry& shape) {
  return shape.groups > 1 && shape.groups == shape.source_channels &&
         shape.groups == shape.target_channels;
}

void lower_depthwise(const ValueView& source, const ValueView& w, const ValueView& c,
                     DepthwiseArgs& args, const EpilogueOperands& epilogue, LaunchWriter& writer) {
  const ConvGeometry& shape = args.shape;
  const ConvAxis &down = shape.axis[0], &across = shape.axis[1];
  // What a target row writes, or reads if that is more.
  const int64_t row = std::max(across.target, across.source * down.source / down.target);
  args.rows_per_block =
      std::min(down.target, items_per_block(row * shape.target_channels, 2 * kBlockElements));
  args.row_blocks = ceil_div(down.target, args.rows_per_block);
  writer.read(&args.source, source);
  writer.read(&args.w, w);
  writer.write(&args.c, c);
  bind_epilogue(writer, args.epilogue, epilogue, 0, c.size());
  writer.add<Kernel::depthwise>(args, {.blocks = shape.images * args.row_blocks,
                                       .flops = conv_flops(shape, args.transposed)});
}

void lower_windows(const NodeView& node, LaunchWriter& writer, bool transposed) {
  const ValueView source = node.input(0), w = node.input(1), c = node.output(0);
  ConvArgs args{};
  const EpilogueOperands epilogue = epilogue_of(node, 2, args.epilogue);
  if (c.size() == 0) return;
  const int width = kFloat32Numbers.tile(writer.isa()).width;
  args.transposed = transposed;
  ConvGeometry& shape = args.shape;
  shape = geometry_of(node, source, c, w.shape.first(w.shape.size() - 2), transposed);
  if (is_depthwise(shape)) {
    DepthwiseArgs few{};
    few.shape = shape;
    few.epilogue = args.epilogue;
    few.transposed = transposed;
    return lower_depthwise(source, w, c, few, epilogue, writer);
  }
  if (is_for_winograd(shape)) {
    return lower_winograd(writer, transposed ? turned_geometry(shape) : shape, source, w, c,
                          transposed, args.epilogue, epilogue);
  }
  ConvAxis &down = shape.axis[0], &across = shape.axis[1];
  const int64_t taps = down.kernel * across.kernel, K = taps * shape.depth;

  const int64_t vectors = ceil_div(shape.columns, width);
  args.panel_vectors = panel_vectors_of(kFloat32Numbers.tile(writer.isa()), vectors);
  const int64_t panels = ceil_div(vectors, args.panel_vectors);

  // Blocks: rows of an image, or whole images; then panels, where these are too few.
  const int64_t classes = shape.classes[0] * shape.classes[1];
  const int64_t rows = ceil_div(down.target, shape.classes[0]);
  const int64_t cols = ceil_div(across.target, shape.classes[1]);
  const double flops = conv_flops(shape, transposed);
  const int64_t wanted =
      std::clamp<int64_t>(static_cast<int64_t>(flops / kConvBlockFlop), 1, kManyConvBlocks);
  args.rows_per_block = std::clamp<int64_t>(kBlockPositions / cols, 1, rows);
  args.images_per_block = 1;
  if (args.rows_per_block == rows) {
    args.images_per_block = std::clamp<int64_t>(kBlockPositions / (rows * cols), 1, shape.images);
  }
  const int64_t most_bytes = writer.isa() <= Isa::avx2 ? kRegionBytes : kLargeRegionBytes;
  const auto is_too_large = [&] {
    const int64_t region = cover_of(down, transposed, args.rows_per_block).extent *
                           cover_of(across, transposed, cols).extent;
    return kFloatBytes * args.images_per_block * region * shape.depth > most_bytes;
  };
  while (args.images_per_block > 1 && is_too_large()) --args.images_per_block;
  while (args.rows_per_block > 1 && is_too_large()) --args.rows_per_block;
  const int64_t most_rows = args.rows_per_block, most_images = args.images_per_block;
  const auto count = [&] {
    args.image_blocks = ceil_div(shape.images, args.images_per_block);
    args.row_blocks = ceil_div(rows, args.rows_per_block);
    return args.image_blocks * args.row_blocks * classes * shape.groups;
  };
  args.blocks_n = std::clamp<int64_t>(ceil_div(wanted, count()), 1, panels);
  while (count() * args.blocks_n * 2 <= wanted && args.images_per_block > 1) {
    args.images_per_block = ceil_div(args.images_per_block, 2);
  }
  while (count() * args.blocks_n * 2 <= wanted && args.rows_per_block > 1) {
    args.rows_per_block = ceil_div(args.rows_per_block, 2);
  }
  // Blocks of few rows are joined where one thread has several, so cut as finely as gives two and
  // four threads equal parts: a layer of 32 rows in blocks of 7 had parts of 14 and 18.
  while (count() > 1 && args.row_blocks > 1 && shape.images == 1 && rows % 4 == 0 &&
         rows / 4 % args.rows_per_block != 0) {
    --args.rows_per_block;
  }
  count();
  // What one thread does in a row is copied once, and reads a panel once.
  args.joined_blocks =
      args.row_blocks > 1 ? most_rows / args.rows_per_block : most_images / args.images_per_block;
  const int64_t joined_rows = args.row_blocks > 1 ? args.joined_blocks * args.rows_per_block : rows;
  const int64_t joined_images =
      args.row_blocks > 1 ? args.images_per_block : args.joined_blocks * args.images_per_block;

  const Cover cover_down = cover_of(down, transposed, joined_rows);
  const Cover cover_across = cover_of(across, transposed, cols);
  shape.copies = !cover_down.is_inside || !cover_across.is_inside;
  args.taps_per_chunk = std::max<int64_t>(1, kChunk / std::max<int64_t>(1, shape.depth));
  args.joins_taps = !transposed && across.dilation == 1 && args.taps_per_chunk >= across.kernel &&
                    (shape.copies || shape.groups == 1);
  if (args.joins_taps) args.taps_per_chunk -= args.taps_per_chunk % across.kernel;
  if (shape.copies) {
    args.source_scratch = whole_lines(kFloatBytes * joined_images * cover_down.extent *
                                      cover_across.extent * shape.depth);
  }
  const int64_t positions = joined_images * joined_rows * cols;
  const int64_t scratch = args.source_scratch + 16 * positions + 32 * taps;

  const Ref packed = add_packing(writer, w, K, shape, args.panel_vectors, width, transposed,
                                 !transposed && w.is_stable, args.packed_group);
  writer.read(&args.source, source);
  writer.read(&args.packed, packed);
  writer.write(&args.c, c);
  bind_epilogue(writer, args.epilogue, epilogue, 0, c.size());
  writer.add<Kernel::conv>(args,
                           {.blocks = count() * args.blocks_n, .scratch = scratch, .flops = flops});
}

}  // namespace

// (x, w; strides, padding, dilation, groups) -> y
void lower_conv(const NodeView& node, LaunchWriter& writer) { lower_windows(node, writer, false); }

// (dy, w; strides, padding, dilation, groups) -> dx
void lower_conv_input_grad(const NodeView& node, LaunchWriter& writer) {
  lower_windows(node, writer, true);
}

// (x, dy; strides, padding, dilation, groups) -> dw
void lower_conv_kernel_grad(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0), dy = node.input(1), dw = node.output(0);
  if (dw.size() == 0) return;
  if (x.size() == 0 || dy.size() == 0) return add_empty_sums(writer, dw);
  const MatmulTile& tile = kFloat32Numbers.tile(writer.isa());
  ConvKernelGradArgs args{};
  ConvGeometry& shape = args.shape;
  shape = geometry_of(node, x, dy, dw.shape.first(dw.shape.size() - 2), false);
  if (is_depthwise(shape)) {
    DepthwiseGradArgs few{};
    few.shape = shape;
    const double few_flops = conv_flops(shape, false);
    const int64_t rows = shape.images * shape.axis[0].target;
    const int64_t wanted = std::clamp<int64_t>(static_cast<int64_t>(few_flops / kConvBlockFlop), 1,
                                               kManyConvBlocks / 2);
    few.parts = std::clamp<int64_t>(shape.source_channels / kDepthwiseGradChannels, 1, wanted);
    few.slices = std::clamp<int64_t>(wanted / few.parts, 1, rows);
    writer.read(&few.source, x);
    writer.read(&few.dy, dy);
    const LaunchInfo info{.blocks = few.slices * few.parts, .flops = few_flops};
    if (few.slices == 1) {
      writer.write(&few.c, dw);
      return writer.add<Kernel::depthwise_grad>(few, info);
    }
    const Ref partial = writer.workspace(whole_lines(kFloatBytes * few.slices * dw.size()));
    writer.write(&few.c, partial);
    writer.add<Kernel::depthwise_grad>(few, info);
    return add_slices(writer, partial, few.slices, dw, tile.width);
  }
  if (is_for_winograd(shape)) return lower_winograd_grad(writer, shape, x, dy, dw);
  ConvAxis &down = shape.axis[0], &across = shape.axis[1];
  const int64_t taps = down.kernel * across.kernel;
  const int64_t vectors = ceil_div(shape.columns, tile.width);
  args.panel_vectors = panel_vectors_of(tile, vectors);

  const int64_t positions = down.target * across.target;
  args.rows_per_chunk = even_part(down.target, kChunkPositions / across.target);
  args.images_per_chunk = 1;
  if (args.rows_per_chunk >= down.target) {
    args.images_per_chunk = even_part(shape.images, kChunkPositions / positions);
  }
  const int64_t chunks =
      ceil_div(shape.images, args.images_per_chunk) * ceil_div(down.target, args.rows_per_chunk);
  const double flops = conv_flops(shape, false);
  const int64_t wanted =
      std::clamp<int64_t>(static_cast<int64_t>(flops / kConvBlockFlop), 1, kManyConvBlocks / 2);
  cut_kernel_grad(args, wanted, chunks, {x.size(), dy.size(), dw.size()});
  const int64_t blocks = args.parts * args.blocks_n * shape.groups;

  const Cover cover_down = cover_of(down, false, args.rows_per_chunk);
  const Cover cover_across = cover_of(across, false, across.target);
  shape.copies = !cover_down.is_inside || !cover_across.is_inside;
  if (shape.copies) {
    args.copied_pixel = args.depth_part;
    args.source_scratch = whole_lines(kFloatBytes * args.images_per_chunk * cover_down.extent *
                                      cover_across.extent * args.copied_pixel);
  }
  const int64_t rows = taps * args.depth_part;
  const int64_t scratch =
      args.source_scratch + 16 * rows + 16 * args.images_per_chunk * args.rows_per_chunk;
  const LaunchInfo info{.blocks = blocks * args.slices, .scratch = scratch, .flops = flops};
  writer.read(&args.source, x);
  writer.read(&args.dy, dy);
  if (args.slices == 1) {
    writer.write(&args.c, dw);
    writer.add<Kernel::conv_kernel_grad>(args, info);
    return;
  }
  const Ref partial = writer.workspace(whole_lines(kFloatBytes * args.slices * dw.size()));
  writer.write(&args.c, partial);
  writer.add<Kernel::conv_kernel_grad>(args, info);
  add_slices(writer, partial, args.slices, dw, tile.width);
}

}  // namespace handmill
