// Pooling over lines and images with channels last, and its gradients.
#include "core/lower/blocks.h"
#include "core/lower/builder.h"

namespace handmill {
namespace {

// Work of a comparison, an addition or a division for each element of each window.
constexpr int64_t kFewImages = 16;
constexpr int64_t kChannelsOfABlock = 64;

void fill_axes(const NodeView& node, const ValueView& input, const ValueView& output,
               PoolAxis (&axis)[2]) {
  const int spatial = input.rank() - 2;
  require(spatial == 1 || spatial == 2, node.kernel(), ": lines or images are needed");
  const std::span<const int64_t> window = node.ints("window"), strides = node.ints("strides"),
                                 padding = node.ints("padding");
  axis[0] = {1, 1, 1, 1, 0};
  for (int i = 0; i < spatial; ++i) {
    const size_t at = static_cast<size_t>(i);
    axis[i + 2 - spatial] = {input.dim(i + 1), output.dim(i + 1), window[at], strides[at],
                             padding[2 * at]};
  }
}

double pool_flops(const ValueView& output, const PoolAxis (&axis)[2]) {
  return static_cast<double>(output.size() * axis[0].window * axis[1].window);
}

template <Kernel kKernel>
void lower_pool(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0), y = node.output(0);
  if (y.size() == 0) return;
  PoolArgs args{};
  fill_axes(node, x, y, args.axis);
  args.images = x.dim(0);
  args.channels = x.dim(-1);
  const int64_t rows = args.images * args.axis[0].output;
  // A block for each thread early: what one thread alone writes, all others wait for and then fetch
  // from its cache.
  args.rows_per_block =
      even_part(rows, items_per_block(args.axis[1].output * args.channels * args.axis[0].window *
                                          args.axis[1].window,
                                      2 * kBlockElements));
  writer.read(&args.x, x);
  writer.write(&args.y, y);
  writer.add<kKernel>(
      args, {.blocks = ceil_div(rows, args.rows_per_block), .flops = pool_flops(y, args.axis)});
}

}  // namespace

// (x; window, strides, padding) -> y
void lower_max_pool(const NodeView& node, LaunchWriter& writer) {
  lower_pool<Kernel::max_pool>(node, writer);
}

// (x; window, strides, padding) -> y
void lower_average_pool(const NodeView& node, LaunchWriter& writer) {
  lower_pool<Kernel::average_pool>(node, writer);
}

// (x, dy; window, strides, padding, gated) -> dx
void lower_max_pool_grad(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0), dy = node.input(1), dx = node.output(0);
  if (dx.size() == 0) return;
  MaxPoolGradArgs args{};
  fill_axes(node, x, dy, args.axis);
  args.images = x.dim(0);
  args.channels = x.dim(-1);
  args.gated = node.flag("gated");
  args.channels_per_block = args.images >= kFewImages ? args.channels : kChannelsOfABlock;
  args.channel_blocks = ceil_div(args.channels, args.channels_per_block);
  writer.read(&args.x, x);
  writer.read(&args.dy, dy);
  writer.write(&args.dx, dx);
  writer.add<Kernel::max_pool_grad>(
      args, {.blocks = args.images * args.channel_blocks, .flops = 2 * pool_flops(dy, args.axis)});
}

// (dy; window, strides, padding) -> dx
void lower_average_pool_grad(const NodeView& node, LaunchWriter& writer) {
  const ValueView dy = node.input(0), dx = node.output(0);
  if (dx.size() == 0) return;
  AveragePoolGradArgs args{};
  fill_axes(node, dx, dy, args.axis);
  args.images = dx.dim(0);
  args.channels = dx.dim(-1);
  args.rows_per_block = items_per_block(args.axis[1].input * args.channels, 4 * kBlockElements);
  writer.read(&args.dy, dy);
  writer.write(&args.dx, dx);
  writer.add<Kernel::average_pool_grad>(
      args, {.blocks = ceil_div(args.images * args.axis[0].input, args.rows_per_block),
             .flops = 2 * pool_flops(dy, args.axis)});
}

}  // namespace handmill
