// Layer and root mean square normalization of the last axis, and their gradients.
#include <algorithm>

#include "core/lower/blocks.h"
#include "core/lower/builder.h"
#include "core/lower/reduce/reduce.h"

namespace handmill {
namespace {

// As many parts of the sums over rows keep 64 threads busy.
constexpr int64_t kMostParts = 64;

template <class Args>
void cut_normalized(Args& args, const ValueView& x) {
  args.N = x.dim(-1);
  args.M = x.product(0, x.rank() - 1);
  args.rows_per_block = items_per_block(args.N);
}

}  // namespace

// (x, scale, offset; epsilon, centered) -> y, mean, inverse; not centered: (x, scale) -> y, inverse
void lower_normalize_rows(const NodeView& node, LaunchWriter& writer) {
  const bool centered = node.flag("centered");
  const ValueView x = node.input(0);
  NormalizeRowsArgs args{};
  cut_normalized(args, x);
  args.epsilon = static_cast<float>(node.f64("epsilon"));
  writer.read(&args.x, x);
  writer.read(&args.scale, node.input(1));
  writer.write(&args.y, node.output(0));
  if (centered) {
    writer.read(&args.offset, node.input(2));
    writer.write(&args.mean, node.output(1));
  }
  writer.write(&args.inverse, node.output(centered ? 2 : 1));
  writer.add<Kernel::normalize_rows>(args, {.blocks = ceil_div(args.M, args.rows_per_block),
                                            .flops = 8.0 * static_cast<double>(x.size())});
}

// (dy, x, scale, mean, inverse, residual; centered, residual) -> dx, dscale, doffset; there is no
// mean and no doffset where it is not centered
void lower_normalize_rows_grad(const NodeView& node, LaunchWriter& writer) {
  const bool centered = node.flag("centered");
  const ValueView x = node.input(1);
  NormalizeRowsGradArgs args{};
  cut_normalized(args, x);
  args.rows_per_block = std::max(args.rows_per_block, ceil_div(args.M, kMostParts));
  const int64_t parts = ceil_div(args.M, args.rows_per_block);
  const int64_t bytes = parts * args.N * static_cast<int64_t>(sizeof(float));
  const Ref scale_sums = writer.workspace(bytes), offset_sums = writer.workspace(bytes);
  int next = 3;
  writer.read(&args.dy, node.input(0));
  writer.read(&args.x, x);
  writer.read(&args.scale, node.input(2));
  if (centered) {
    writer.read(&args.mean, node.input(next++));
    writer.write(&args.offset_sums, offset_sums);
  }
  writer.read(&args.inverse, node.input(next++));
  if (node.flag("residual")) writer.read(&args.residual, node.input(next));
  writer.write(&args.dx, node.output(0));
  writer.write(&args.scale_sums, scale_sums);
  writer.add<Kernel::normalize_rows_grad>(
      args, {.blocks = parts, .flops = 16.0 * static_cast<double>(x.size())});
  if (args.N == 0) return;
  add_column_sums(writer, scale_sums, node.output(1), parts, args.N);
  if (centered) add_column_sums(writer, offset_sums, node.output(2), parts, args.N);
}

}  // namespace handmill
