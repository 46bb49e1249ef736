// What metrics measure of a batch.
#include "core/lower/blocks.h"
#include "core/lower/builder.h"
#include "core/lower/strided.h"

namespace handmill {
namespace {

template <class Args>
LaunchInfo cut_rows(Args& args, const ValueView& predictions) {
  args.N = predictions.dim(-1);
  args.M = predictions.product(0, predictions.rank() - 1);
  args.rows_per_block = items_per_block(args.N);
  return {.blocks = args.N == 0 ? 0 : ceil_div(args.M, args.rows_per_block),
          .flops = static_cast<double>(predictions.size())};
}

// Finds the strides with which weights follow values seen as (M, N), if there are any.
bool weights_as_matrix(std::span<const int64_t> values, const ValueView& weights,
                       AccumulateMeanArgs& args) {
  const int rank = static_cast<int>(values.size());
  const int first = rank - weights.rank();
  // The axes of values fall into a left and a right run; one has weights, the other does not.
  int64_t left = 1, right = 1;
  bool left_has = false, right_has = false, in_right = false, seen = false;
  for (int axis = 0; axis < rank; ++axis) {
    const int64_t dim = values[static_cast<size_t>(axis)];
    if (dim == 1) continue;
    const bool has = axis >= first && weights.dim(axis - first) == dim;
    if (!seen) {
      left_has = has;
      seen = true;
    } else if (!in_right && has != left_has) {
      in_right = true;
      right_has = has;
    } else if (in_right && has != right_has) {
      return false;
    }
    (in_right ? right : left) *= dim;
  }
  args.M = in_right ? left : 1;
  args.N = in_right ? right : left;
  args.weight_row = in_right && left_has ? 1 : 0;
  args.weight_col = (in_right ? right_has : left_has) ? 1 : 0;
  return true;
}

}  // namespace

// (labels, predictions) -> y
void lower_sparse_match(const NodeView& node, LaunchWriter& writer) {
  SparseMatchArgs args{};
  const LaunchInfo info = cut_rows(args, node.input(1));
  args.label_type = node.input(0).dtype;
  writer.read(&args.labels, node.input(0));
  writer.read(&args.predictions, node.input(1));
  writer.write(&args.y, node.output(0));
  writer.add<Kernel::sparse_match>(args, info);
}

// (targets, predictions) -> y
void lower_dense_match(const NodeView& node, LaunchWriter& writer) {
  DenseMatchArgs args{};
  const LaunchInfo info = cut_rows(args, node.input(1));
  writer.read(&args.targets, node.input(0));
  writer.read(&args.predictions, node.input(1));
  writer.write(&args.y, node.output(0));
  writer.add<Kernel::dense_match>(args, info);
}

// (total, count, values, weights) -> (total, count)
void lower_accumulate_mean(const NodeView& node, LaunchWriter& writer) {
  const ValueView values = node.input(2), weights = node.input(3);
  AccumulateMeanArgs args{};
  Ref weights_ref = weights;
  if (!weights_as_matrix(values.shape, weights, args)) {
    weights_ref = writer.workspace(values.bytes());
    broadcast_into(writer, weights_ref, values.shape, weights, weights.shape, 4);
    args.M = 1;
    args.N = values.size();
    args.weight_row = 0;
    args.weight_col = 1;
  }
  writer.read(&args.total, node.input(0));
  writer.read(&args.count, node.input(1));
  writer.read(&args.values, values);
  writer.read(&args.weights, weights_ref);
  writer.write(&args.total_out, node.output(0));
  writer.write(&args.count_out, node.output(1));
  writer.add<Kernel::accumulate_mean>(
      args, {.blocks = 1, .flops = 2.0 * static_cast<double>(values.size())});
}

}  // namespace handmill
