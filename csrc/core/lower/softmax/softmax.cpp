// Softmax over the last axis and its gradient; other axes come with a transpose around it.
#include "core/lower/blocks.h"
#include "core/lower/builder.h"

namespace handmill {
namespace {

// Costs about as much as 5 elementwise operations.
constexpr int64_t kSoftmaxElements = 4096;

// Where a row has no elements there is nothing to do, unless each row has a result.
template <class Args>
LaunchInfo cut_rows(Args& args, const ValueView& matrix, double flops, bool has_result = false) {
  require(matrix.rank() > 0, "softmax needs at least one axis");
  args.N = matrix.dim(-1);
  args.M = matrix.product(0, matrix.rank() - 1);
  args.rows_per_block = items_per_block(args.N, kSoftmaxElements);
  return {.blocks = args.N == 0 && !has_result ? 0 : ceil_div(args.M, args.rows_per_block),
          .flops = flops * static_cast<double>(matrix.size())};
}

void check_axis(const NodeView& node) {
  const int64_t rank = node.input(0).rank(), axis = node.i64("axis", -1);
  require(axis == -1 || axis == rank - 1, node.kernel(), ": only the last axis, got axis=", axis);
}

template <Kernel kernel>
void lower_forward(const NodeView& node, LaunchWriter& writer) {
  check_axis(node);
  SoftmaxArgs args{};
  const LaunchInfo info = cut_rows(args, node.input(0), 20);
  writer.read(&args.x, node.input(0));
  writer.write(&args.y, node.output(0));
  writer.add<kernel>(args, info);
}

template <Kernel kernel>
void lower_backward(const NodeView& node, LaunchWriter& writer) {
  check_axis(node);
  SoftmaxGradArgs args{};
  const LaunchInfo info = cut_rows(args, node.input(0), 4);
  writer.read(&args.dy, node.input(0));
  writer.read(&args.y, node.input(1));
  writer.write(&args.dx, node.output(0));
  writer.add<kernel>(args, info);
}

}  // namespace

// (x; axis) -> y
void lower_softmax(const NodeView& node, LaunchWriter& writer) {
  lower_forward<Kernel::softmax>(node, writer);
}
void lower_log_softmax(const NodeView& node, LaunchWriter& writer) {
  lower_forward<Kernel::log_softmax>(node, writer);
}

// (dy, y; axis) -> dx
void lower_softmax_grad(const NodeView& node, LaunchWriter& writer) {
  lower_backward<Kernel::softmax_grad>(node, writer);
}
void lower_log_softmax_grad(const NodeView& node, LaunchWriter& writer) {
  lower_backward<Kernel::log_softmax_grad>(node, writer);
}

// (logits, labels) -> (loss, probabilities)
void lower_sparse_softmax_cross_entropy(const NodeView& node, LaunchWriter& writer) {
  SparseCrossEntropyArgs args{};
  const LaunchInfo info = cut_rows(args, node.input(0), 20, true);
  args.label_type = node.input(1).dtype;
  writer.read(&args.logits, node.input(0));
  writer.read(&args.labels, node.input(1));
  writer.write(&args.loss, node.output(0));
  writer.write(&args.probabilities, node.output(1));
  writer.add<Kernel::sparse_softmax_cross_entropy>(args, info);
}

// (dloss, probabilities, labels) -> dlogits
void lower_sparse_softmax_cross_entropy_grad(const NodeView& node, LaunchWriter& writer) {
  SparseCrossEntropyGradArgs args{};
  const LaunchInfo info = cut_rows(args, node.input(1), 2);
  args.label_type = node.input(2).dtype;
  writer.read(&args.dloss, node.input(0));
  writer.read(&args.probabilities, node.input(1));
  writer.read(&args.labels, node.input(2));
  writer.write(&args.dlogits, node.output(0));
  writer.add<Kernel::sparse_softmax_cross_entropy_grad>(args, info);
}

// (logits, targets) -> (loss, probabilities)
void lower_softmax_cross_entropy(const NodeView& node, LaunchWriter& writer) {
  CrossEntropyArgs args{};
  const LaunchInfo info = cut_rows(args, node.input(0), 35, true);
  writer.read(&args.logits, node.input(0));
  writer.read(&args.targets, node.input(1));
  writer.write(&args.loss, node.output(0));
  writer.write(&args.probabilities, node.output(1));
  writer.add<Kernel::softmax_cross_entropy>(args, info);
}

// (dloss, probabilities, targets) -> dlogits
void lower_softmax_cross_entropy_grad(const NodeView& node, LaunchWriter& writer) {
  CrossEntropyGradArgs args{};
  const LaunchInfo info = cut_rows(args, node.input(1), 5);
  writer.read(&args.dloss, node.input(0));
  writer.read(&args.probabilities, node.input(1));
  writer.read(&args.targets, node.input(2));
  writer.write(&args.dlogits, node.output(0));
  writer.add<Kernel::softmax_cross_entropy_grad>(args, info);
}

// guard: (labels; num_classes) -> the same labels
void lower_check_labels(const NodeView& node, LaunchWriter& writer) {
  CheckLabelsArgs args{};
  args.size = node.input(0).size();
  args.num_classes = node.i64("num_classes");
  args.label_type = node.input(0).dtype;
  writer.view(node.output(0), node.input(0));
  writer.read(&args.labels, node.input(0));
  writer.guard(&args.found);
  writer.add<Kernel::check_labels>(args, {.blocks = 1, .flops = static_cast<double>(args.size)});
}

}  // namespace handmill
