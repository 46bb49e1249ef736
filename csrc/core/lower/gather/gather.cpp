// Rows chosen by indices. Indices are int32, int64, uint8, int8 or integral float32.
#include <algorithm>

#include "core/lower/blocks.h"
#include "core/lower/builder.h"

namespace handmill {

namespace {

// The byte that what an index out of range names is filled with: 0, for floats NaN (all bits set).
uint8_t fill_of(Dtype dtype, bool zeros) {
  const bool is_float =
      dtype == Dtype::float32 || dtype == Dtype::float64 || dtype == Dtype::bfloat16;
  return is_float && !zeros ? 0xff : 0;
}

}  // namespace

// (x, indices; axis = 0, from_end = true, zeros = false) -> y. Out of range: 0, for floats NaN (all
// bits set) unless zeros; a check_labels guard on the indices refuses the batch instead.
void lower_take(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0), indices = node.input(1);
  const int64_t given = node.i64("axis", 0);
  const int axis = static_cast<int>(given < 0 ? given + x.rank() : given);
  TakeArgs args{};
  args.outer = x.product(0, axis);
  args.rows = x.dim(axis);
  args.num_indices = indices.size();
  args.item_bytes = x.product(axis + 1, x.rank()) * dtype_bytes(x.dtype);
  args.per_block = items_per_block(args.item_bytes, kBlockElements * 4);
  args.index_type = indices.dtype;
  args.fill = fill_of(x.dtype, node.flag("zeros"));
  args.from_end = node.flag("from_end", true);
  writer.read(&args.x, x);
  writer.read(&args.indices, indices);
  writer.write(&args.y, node.output(0));
  const double moved = static_cast<double>(node.output(0).bytes());
  writer.add<Kernel::take>(
      args,
      {.blocks = args.item_bytes == 0 ? 0 : args.outer * ceil_div(args.num_indices, args.per_block),
       .bytes_read =
           std::min(moved, static_cast<double>(x.bytes())) + static_cast<double>(indices.bytes()),
       .bytes_written = moved});
}

// (dy, indices; from_end = true) -> y of the output's shape (rows, ...)
void lower_scatter_add(const NodeView& node, LaunchWriter& writer) {
  const ValueView dy = node.input(0), indices = node.input(1), y = node.output(0);
  ScatterAddArgs args{};
  args.rows = y.dim(0);
  args.N = y.product(1, y.rank());
  args.num_indices = indices.size();
  args.index_type = indices.dtype;
  args.from_end = node.flag("from_end", true);
  // Each block reads all indices: few blocks, unless the rows are worth it.
  constexpr int64_t kMostBlocks = 16;
  args.rows_per_block =
      std::max(items_per_block(args.N), ceil_div(std::max<int64_t>(args.rows, 1), kMostBlocks));
  writer.read(&args.dy, dy);
  writer.read(&args.indices, indices);
  writer.write(&args.y, y);
  writer.add<Kernel::scatter_add>(
      args, {.blocks = args.N == 0 ? 0 : ceil_div(args.rows, args.rows_per_block),
             .flops = static_cast<double>(dy.size())});
}

// (x, indices, updates) -> y: x with rows replaced
void lower_put_rows(const NodeView& node, LaunchWriter& writer) {
  const ValueView indices = node.input(1), updates = node.input(2), y = node.output(0);
  writer.copy(node.input(0), y);
  PutRowsArgs args{};
  args.rows = y.dim(0);
  args.row_bytes = y.product(1, y.rank()) * dtype_bytes(y.dtype);
  args.num_indices = indices.size();
  args.index_type = indices.dtype;
  // Each block reads all indices: few blocks, and one where few rows are written.
  constexpr int64_t kMostBlocks = 16;
  const int64_t wanted =
      std::clamp<int64_t>(updates.bytes() / (4 * kBlockElements), 1, kMostBlocks);
  args.rows_per_block = std::max<int64_t>(1, ceil_div(args.rows, wanted));
  writer.read(&args.x, updates);
  writer.read(&args.indices, indices);
  writer.update(&args.y, y);
  const auto moved = static_cast<double>(std::min(updates.bytes(), y.bytes()));
  writer.add<Kernel::put_rows>(args, {.blocks = args.row_bytes == 0 || args.num_indices == 0
                                                    ? 0
                                                    : ceil_div(args.rows, args.rows_per_block),
                                      .bytes_read = moved + static_cast<double>(indices.bytes()),
                                      .bytes_written = moved});
}

// (x, indices; axis, zeros = false) -> y
void lower_take_along(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0), indices = node.input(1), y = node.output(0);
  const int axis = static_cast<int>(node.i64("axis", 0));
  TakeAlongArgs args{};
  args.rows = x.dim(axis);
  args.count = y.dim(axis);
  args.inner = y.product(axis + 1, y.rank());
  args.size = y.size();
  args.per_block = kBlockElements;
  args.item_bytes = static_cast<int32_t>(dtype_bytes(x.dtype));
  args.index_type = indices.dtype;
  args.fill = fill_of(x.dtype, node.flag("zeros"));
  writer.read(&args.x, x);
  writer.read(&args.indices, indices);
  writer.write(&args.y, y);
  writer.add<Kernel::take_along>(args, {.blocks = ceil_div(args.size, args.per_block)});
}

// (dy, indices; axis) -> y of the output's shape, which differs along the axis
void lower_add_along(const NodeView& node, LaunchWriter& writer) {
  const ValueView dy = node.input(0), indices = node.input(1), y = node.output(0);
  const int axis = static_cast<int>(node.i64("axis", 0));
  AddAlongArgs args{};
  args.outer = y.product(0, axis);
  args.rows = y.dim(axis);
  args.count = dy.dim(axis);
  args.inner = y.product(axis + 1, y.rank());
  args.per_block = items_per_block((args.rows + args.count) * args.inner);
  args.index_type = indices.dtype;
  writer.read(&args.dy, dy);
  writer.read(&args.indices, indices);
  writer.write(&args.y, y);
  writer.add<Kernel::add_along>(args,
                                {.blocks = y.size() == 0 ? 0 : ceil_div(args.outer, args.per_block),
                                 .flops = static_cast<double>(dy.size())});
}

// (indices; depth) -> float32 (..., depth)
void lower_one_hot(const NodeView& node, LaunchWriter& writer) {
  const ValueView indices = node.input(0), y = node.output(0);
  OneHotArgs args{};
  args.size = indices.size();
  args.depth = y.dim(-1);
  args.per_block = items_per_block(args.depth);
  args.index_type = indices.dtype;
  writer.read(&args.indices, indices);
  writer.write(&args.y, y);
  writer.add<Kernel::one_hot>(
      args, {.blocks = args.depth == 0 ? 0 : ceil_div(args.size, args.per_block)});
}

}  // namespace handmill
