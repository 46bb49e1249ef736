// Gradients of the rows of a table that a step used, and the update of these rows alone.
#include <algorithm>

#include "core/lower/blocks.h"
#include "core/lower/builder.h"
#include "core/lower/optimizer/optimizer.h"

namespace handmill {
namespace {

constexpr int64_t kPieceElements = 2048;  // of a gradient: a part of the L1 cache

// Blocks share the rows that are in use, and those that are not (kernels/rows/rows.cpp).
int64_t blocks_of(int64_t rows, int64_t row_size) {
  return row_size == 0 ? 0 : ceil_div(rows, items_per_block(row_size));
}

// Adds the launches that sum dy by row: `sums` and `at`, as wide as there are indices.
void add_sums(const NodeView& node, const Ref& sums, const Ref& at, LaunchWriter& writer) {
  const ValueView dy = node.input(0), indices = node.input(1);
  const int64_t count = indices.size(), rows = node.i64("rows");
  require(count <= INT32_MAX && rows <= UINT32_MAX, node.kernel(),
          ": more than 2^31 - 1 indices, or 2^32 rows");
  const Ref keys = writer.workspace(8 * count), other_keys = writer.workspace(8 * count);
  const Ref order = writer.workspace(4 * count), first = writer.workspace(4 * (count + 1));
  SortRowsArgs sort{};
  sort.rows = rows;
  sort.num_indices = count;
  sort.index_type = indices.dtype;
  sort.from_end = node.flag("from_end", true);
  writer.read(&sort.indices, indices);
  writer.update(&sort.keys, keys);
  writer.update(&sort.other_keys, other_keys);
  writer.write(&sort.order, order);
  writer.write(&sort.first, first);
  writer.update(&sort.at, at);
  writer.add<Kernel::sort_rows>(sort, {.blocks = count == 0 ? 0 : 1});

  SumRowsArgs sum{};
  sum.N = dy.product(indices.rank(), dy.rank());
  sum.num_indices = count;
  sum.blocks = blocks_of(count, sum.N);
  writer.read(&sum.dy, dy);
  writer.read(&sum.order, order);
  writer.read(&sum.first, first);
  writer.read(&sum.at, at);
  writer.write(&sum.y, sums);
  writer.add<Kernel::sum_rows>(sum,
                               {.blocks = sum.blocks, .flops = static_cast<double>(dy.size())});
}

}  // namespace

// (dy, indices; rows, from_end = true) -> (sums, at)
void lower_sum_rows(const NodeView& node, LaunchWriter& writer) {
  add_sums(node, node.output(0), node.output(1), writer);
}

// (dy, indices, p, ..., scalars...; rows, from_end = true, update) -> (p, ...): by the gradient
// that scatter_add would give
void lower_scatter_update(const NodeView& node, LaunchWriter& writer) {
  const ValueView dy = node.input(0), p = node.output(0);
  const Ref sums = writer.workspace(dy.bytes()), at = writer.workspace(8 * node.input(1).size());
  add_sums(node, sums, at, writer);
  UpdateTableArgs args{};
  const UpdateOperands operands{node, 2, 2 + node.num_outputs()};
  const std::string_view name = node.text("update");
  bind_update(args.update, name, operands, writer);
  args.N = p.product(1, p.rank());
  args.rows = p.dim(0);
  args.num_updates = node.input(1).size();
  args.rows_per_block = items_per_block(args.N);
  args.rows_per_piece = items_per_block(args.N, kPieceElements);
  writer.read(&args.g, sums);
  writer.read(&args.at, at);
  writer.add<Kernel::update_table>(
      args, {.blocks = args.N == 0 ? 0 : ceil_div(args.rows, args.rows_per_block),
             .scratch = args.rows_per_piece * args.N * 4,
             .flops = update_flops(name, operands) * static_cast<double>(p.size())});
}

// (g, at, p, ..., scalars...; update) -> (p, ...)
void lower_update_rows(const NodeView& node, LaunchWriter& writer) {
  const ValueView g = node.input(0), at = node.input(1), p = node.output(0);
  const int arrays = node.num_outputs();
  for (int i = 0; i < arrays; ++i) writer.copy(node.input(2 + i), node.output(i));
  UpdateRowsArgs args{};
  args.num_arrays = arrays;
  require(arrays <= 3, "update_rows: an update of more than three arrays");
  const UpdateOperands operands{node, 2, 2 + arrays};
  const std::string_view name = node.text("update");
  bind_update(args.update, name, operands, writer);
  args.N = p.product(1, p.rank());
  args.rows = p.dim(0);
  args.num_updates = at.size();
  args.blocks = blocks_of(args.num_updates, args.N);
  writer.read(&args.g, g);
  writer.read(&args.at, at);
  for (int i = 0; i < arrays; ++i) writer.read(&args.arrays[i], node.output(i));
  const auto moved = static_cast<double>(arrays * std::min(g.bytes(), p.bytes()));
  writer.add<Kernel::update_rows>(
      args, {.blocks = args.blocks,
             .flops = update_flops(name, operands) * static_cast<double>(g.size()),
             .bytes_read = moved + static_cast<double>(g.bytes() + at.bytes()),
             .bytes_written = moved});
}

}  // namespace handmill
