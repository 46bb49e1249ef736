// Mean and variance of columns.
#include <algorithm>

#include "core/lower/blocks.h"
#include "core/lower/builder.h"
#include "core/lower/reduce/reduce.h"

namespace handmill {
namespace {

// As many slices keep 64 threads busy; each has rows enough to outweigh its results.
constexpr int64_t kMostMomentSlices = 64;
constexpr int64_t kLeastMomentRows = 32;
constexpr int64_t kMomentSliceElements = 8192;

}  // namespace

// x (..., C) -> mean (C), variance (C), over all other axes
void lower_column_moments(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0);
  require(x.dtype == Dtype::float32, "column_moments: x must be float32");
  JoinMomentsArgs join{};
  join.C = x.dim(-1);
  if (join.C == 0) return;
  ColumnMomentsArgs& args = join.parts;
  args.length = x.size();
  args.N = side_by_side_columns(join.C);
  const int64_t rows = ceil_div(args.length, args.N);
  const int64_t slices = std::clamp<int64_t>(
      std::min(rows / kLeastMomentRows, args.length / kMomentSliceElements), 1, kMostMomentSlices);
  args.slice_length = std::max<int64_t>(ceil_div(rows, slices), 1) * args.N;
  const int64_t blocks = ceil_div(args.length, args.slice_length);
  if (blocks > 0) {
    const int64_t bytes = blocks * args.N * dtype_bytes(x.dtype);
    const Ref means = writer.workspace(bytes), squares = writer.workspace(bytes);
    writer.read(&args.x, x);
    writer.write(&args.means, means);
    writer.write(&args.squares, squares);
    writer.add<Kernel::column_moments>(
        args, {.blocks = blocks, .flops = 4.0 * static_cast<double>(args.length)});
    writer.read(&join.parts.means, means);
    writer.read(&join.parts.squares, squares);
  }
  join.columns_per_block = kLeastMomentRows;
  writer.write(&join.mean, node.output(0));
  writer.write(&join.variance, node.output(1));
  writer.add<Kernel::join_moments>(join, {.blocks = ceil_div(join.C, join.columns_per_block),
                                          .flops = 6.0 * static_cast<double>(blocks * args.N)});
}

}  // namespace handmill
