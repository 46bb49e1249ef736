// Reductions over any axes. Neighbouring axes of one kind, reduced or kept, are merged; then each
// run of reduced axes is one reduction of (outer, R, inner), the innermost run first.
#include "core/lower/reduce/reduce.h"

#include <algorithm>
#include <array>

#include "core/lower/blocks.h"
#include "core/lower/builder.h"
#include "core/lower/optimizer/optimizer.h"

namespace handmill {
namespace {

// A slice of one long reduction: long enough to be worth a partial result.
constexpr int64_t kSliceElements = 32768;
// Fewer blocks than kFewBlocks are cut into slices, until there are about kEnoughBlocks.
constexpr int64_t kFewBlocks = 8;
constexpr int64_t kEnoughBlocks = 64;
// Rows up to which a block takes all of its columns: a second launch costs more than a second
// thread gains (some 10 us for the most).
constexpr int64_t kWholeRows = 2048;
// Columns that reduce_columns takes at once at the widest level.
constexpr int64_t kTileColumns = 64;

struct Reduction {
  ReduceKind kind;  // of this launch
  double divisor;
  Dtype dtype;
  const UpdateOperands* update = nullptr;  // of a parameter by the result, which is not written
};

int64_t workspace_bytes(int64_t elements, Dtype dtype) { return elements * dtype_bytes(dtype); }

ReduceKind combining(ReduceKind kind) {
  return kind == ReduceKind::kSumOfSquares ? ReduceKind::kSum : kind;
}

double flops_of(ReduceKind kind, int64_t elements) {
  return static_cast<double>(elements) * (kind == ReduceKind::kSumOfSquares ? 2 : 1);
}

int64_t most_slices(int64_t blocks) { return blocks < kFewBlocks ? kEnoughBlocks / blocks : 1; }

void add_rows(LaunchWriter& writer, const Ref& x, const Ref& y, int64_t outer, int64_t R,
              Reduction how) {
  ReduceArgs args{};
  args.outer = outer;
  args.length = R;
  args.N = 1;
  args.slices = std::clamp<int64_t>(R / kSliceElements, 1, most_slices(outer));
  args.slice_length = round_up(ceil_div(R, args.slices), kTileColumns);
  args.slices = std::max<int64_t>(1, args.slice_length == 0 ? 1 : ceil_div(R, args.slice_length));
  args.slices_per_block = items_per_block(std::min(R, args.slice_length));
  args.kind = how.kind;
  args.dtype = how.dtype;
  args.divisor = args.slices > 1 ? 1.0 : how.divisor;
  const Ref target =
      args.slices > 1 ? writer.workspace(workspace_bytes(outer * args.slices, how.dtype)) : y;
  writer.read(&args.x, x);
  writer.write(&args.y, target);
  const LaunchInfo info{.blocks = ceil_div(outer * args.slices, args.slices_per_block),
                        .flops = flops_of(how.kind, outer * R)};
  if (how.dtype == Dtype::float32) {
    writer.add<Kernel::reduce_rows>(args, info);
  } else {
    writer.add<Kernel::reduce_rows_lanes>(args, info);
  }
  if (args.slices > 1) {
    add_rows(writer, target, y, outer, args.slices, {combining(how.kind), how.divisor, how.dtype});
  }
}

void add_columns_launch(LaunchWriter& writer, const ReduceArgs& args, const LaunchInfo& info) {
  if (args.dtype == Dtype::float32) {
    writer.add<Kernel::reduce_columns>(args, info);
  } else {
    writer.add<Kernel::reduce_columns_lanes>(args, info);
  }
}

// The last launch of a reduction of columns.
void add_last_columns(LaunchWriter& writer, ReduceArgs& args, const Ref& x, const Ref& y,
                      LaunchInfo info, const UpdateOperands* update) {
  if (update == nullptr) {
    writer.read(&args.x, x);
    writer.write(&args.y, y);
    add_columns_launch(writer, args, info);
    return;
  }
  const std::string_view name = update->node.text("update");
  ReduceUpdateArgs both{};
  both.reduce = args;
  writer.read(&both.reduce.x, x);
  bind_update(both.update, name, *update, writer);
  info.scratch = args.N * static_cast<int64_t>(sizeof(float));
  info.flops += update_flops(name, *update) * static_cast<double>(args.N);
  writer.add<Kernel::reduce_columns_update>(both, info);
}

// Joins `parts` rows of partial results.
void add_joining(LaunchWriter& writer, const Ref& x, const Ref& y, int64_t outer, int64_t parts,
                 int64_t inner, Reduction how) {
  ReduceArgs args{};
  args.outer = outer;
  args.length = parts * inner;
  args.N = inner;
  args.slices = 1;
  args.slice_length = args.length;
  args.columns_per_block =
      std::min(inner, round_up(items_per_block(std::max<int64_t>(parts, 1)), kTileColumns));
  args.column_blocks = ceil_div(inner, args.columns_per_block);
  args.kind = how.kind;
  args.dtype = how.dtype;
  args.divisor = how.divisor;
  add_last_columns(
      writer, args, x, y,
      {.blocks = outer * args.column_blocks, .flops = static_cast<double>(outer * parts * inner)},
      how.update);
}

void add_columns(LaunchWriter& writer, const Ref& x, const Ref& y, int64_t outer, int64_t R,
                 int64_t inner, Reduction how) {
  // Few columns: several rows side by side make one wide row, whose parts are combined afterwards.
  const int64_t side_by_side =
      R * inner >= 8 * kTileColumns ? side_by_side_columns(inner) / inner : 1;
  ReduceArgs args{};
  args.outer = outer;
  args.length = R * inner;
  args.N = inner * side_by_side;
  const int64_t rows = ceil_div(args.length, args.N);
  args.columns_per_block =
      std::min(args.N, round_up(items_per_block(std::max<int64_t>(rows, 1)), kTileColumns));
  args.column_blocks = ceil_div(args.N, args.columns_per_block);
  const int64_t blocks = outer * args.column_blocks;
  if (rows > kWholeRows) {
    args.slices = std::clamp<int64_t>(args.length / kSliceElements, 1, most_slices(blocks));
  } else {
    args.slices = 1;
  }
  const int64_t slice_rows = std::max<int64_t>(1, ceil_div(rows, args.slices));
  args.slice_length = slice_rows * args.N;
  args.slices = std::max<int64_t>(1, ceil_div(rows, slice_rows));
  const int64_t parts = args.slices * side_by_side;
  args.kind = how.kind;
  args.dtype = how.dtype;
  const LaunchInfo info{.blocks = blocks * args.slices,
                        .flops = flops_of(how.kind, outer * R * inner)};
  if (parts == 1) {
    args.divisor = how.divisor;
    add_last_columns(writer, args, x, y, info, how.update);
  } else {
    args.divisor = 1.0;
    const Ref target = writer.workspace(workspace_bytes(outer * parts * inner, how.dtype));
    writer.read(&args.x, x);
    writer.write(&args.y, target);
    add_columns_launch(writer, args, info);
    // At most kEnoughBlocks * kTileColumns rows: too few to be put side by side again and again.
    add_joining(writer, target, y, outer, parts, inner,
                {combining(how.kind), how.divisor, how.dtype, how.update});
  }
}

void add_reduction(LaunchWriter& writer, const Ref& x, const Ref& y, int64_t outer, int64_t R,
                   int64_t inner, Reduction how) {
  if (outer == 0 || inner == 0) return;
  if (inner == 1 && R != 1) {
    add_rows(writer, x, y, outer, R, how);
  } else if (R == 1) {  // nothing to combine: one row
    add_columns(writer, x, y, 1, 1, outer * inner, how);
  } else {
    add_columns(writer, x, y, outer, R, inner, how);
  }
}

ReduceKind kind_of(std::string_view name) {
  if (name == "sum" || name == "mean") return ReduceKind::kSum;
  if (name == "sumsq") return ReduceKind::kSumOfSquares;
  if (name == "max") return ReduceKind::kMax;
  if (name == "min") return ReduceKind::kMin;
  require(name == "prod", "reduce: unknown kind '", name, "'");
  return ReduceKind::kProd;
}

struct Run {
  int64_t size;
  bool is_reduced;
};

}  // namespace

int64_t side_by_side_columns(int64_t columns) {
  return columns < kTileColumns ? ceil_div(kTileColumns, columns) * columns : columns;
}

void add_column_sums(LaunchWriter& writer, const Ref& partials, const Ref& y, int64_t parts,
                     int64_t columns) {
  add_joining(writer, partials, y, 1, parts, columns, {ReduceKind::kSum, 1.0, Dtype::float32});
}

// (x; kind, axis (all if absent)) -> y, whose shape says nothing that matters here
void lower_reduce(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0);
  const std::string_view name = node.text("kind");
  ReduceKind kind = kind_of(name);
  std::array<Run, 16> runs;
  require(x.shape.size() <= runs.size(), "reduce: at most ", runs.size(), " axes");
  size_t num_runs = 0;
  int64_t reduced = 1;
  std::array<bool, 16> is_reduced{};
  if (node.has("axis")) {
    for (int64_t axis : node.ints("axis")) is_reduced[static_cast<size_t>(axis)] = true;
  } else {
    is_reduced.fill(true);
  }
  for (size_t axis = 0; axis < x.shape.size(); ++axis) {
    const int64_t dim = x.shape[axis];
    if (is_reduced[axis]) reduced *= dim;
    if (dim == 1) continue;
    if (num_runs > 0 && runs[num_runs - 1].is_reduced == is_reduced[axis]) {
      runs[num_runs - 1].size *= dim;
    } else {
      runs[num_runs++] = {dim, is_reduced[axis]};
    }
  }
  const double divisor = name == "mean" ? static_cast<double>(reduced) : 1.0;
  require(x.dtype == Dtype::float32 || x.dtype == Dtype::float64 ||
              (x.dtype != Dtype::bfloat16 && name != "mean" && name != "sumsq"),
          "reduce: no ", name, " of ", dtype_name(x.dtype));
  require(dtype_bytes(x.dtype) > 1 || name == "max" || name == "min", "reduce: no ", name, " of ",
          dtype_name(x.dtype));

  int64_t remaining = 0;  // reduced runs
  for (size_t i = 0; i < num_runs; ++i) remaining += runs[i].is_reduced ? 1 : 0;
  if (remaining == 0) {
    add_reduction(writer, x, node.output(0), 1, 1, x.size(), {kind, divisor, x.dtype});
    return;
  }
  Ref source = x;
  int64_t inner = 1;
  for (size_t i = num_runs; i-- > 0;) {
    if (!runs[i].is_reduced) {
      inner *= runs[i].size;
      continue;
    }
    int64_t outer = 1;
    for (size_t before = 0; before < i; ++before) outer *= runs[before].size;
    --remaining;
    const Ref target = remaining == 0 ? Ref(node.output(0))
                                      : writer.workspace(workspace_bytes(outer * inner, x.dtype));
    add_reduction(writer, source, target, outer, runs[i].size, inner,
                  {kind, remaining == 0 ? divisor : 1.0, x.dtype});
    source = target;
    kind = combining(kind);
  }
}

// (x, p, ..., scalars...; axis: all but the last, update and its attributes) -> (p, ...)
// p is updated by the sums of the columns of x.
void lower_reduce_update(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0), p = node.output(0);
  const int64_t N = p.size();
  require(p.rank() == 1 && x.rank() >= 1 && x.dim(-1) == N,
          "reduce_update: the parameter must have an element for each column");
  for (int i = 0; i < node.num_inputs(); ++i) {
    require(node.input(i).dtype == Dtype::float32, "reduce_update: operands must be float32");
  }
  if (N == 0) return;
  const UpdateOperands update{node, 1, 1 + node.num_outputs()};
  add_columns(writer, x, p, 1, x.size() / N, N, {ReduceKind::kSum, 1.0, Dtype::float32, &update});
}

// (x; kind "argmax" or "argmin", axis: int, absent for the flattened array) -> int32
void lower_argreduce(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0);
  ArgReduceArgs args{};
  args.is_min = node.text("kind") == "argmin" || node.text("kind") == "min";
  args.outer = args.inner = 1;
  args.K = x.size();
  if (node.has("axis")) {
    const int64_t given = node.i64("axis");
    const int axis = static_cast<int>(given < 0 ? given + x.rank() : given);
    args.outer = x.product(0, axis);
    args.K = x.dim(axis);
    args.inner = x.product(axis + 1, x.rank());
  }
  require(args.K > 0, node.kernel(), " of no elements");
  require(args.K <= INT32_MAX, node.kernel(), " over more than 2^31 - 1 elements");
  int64_t blocks;
  if (args.inner == 1) {
    args.per_block = items_per_block(args.K);
    blocks = ceil_div(args.outer, args.per_block);
  } else {
    args.per_block = round_up(items_per_block(args.K), kTileColumns);
    args.column_blocks = ceil_div(args.inner, args.per_block);
    blocks = args.outer * args.column_blocks;
  }
  args.dtype = x.dtype;
  writer.read(&args.x, x);
  writer.write(&args.y, node.output(0));
  const LaunchInfo info{.blocks = blocks, .flops = 2.0 * static_cast<double>(x.size())};
  if (x.dtype == Dtype::float32) {
    writer.add<Kernel::argreduce>(args, info);
  } else {
    require(x.dtype != Dtype::bfloat16, "argreduce: not of bfloat16");
    writer.add<Kernel::argreduce_lanes>(args, info);
  }
}

}  // namespace handmill
