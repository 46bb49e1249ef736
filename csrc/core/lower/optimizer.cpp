// Optimizer updates: one node for each parameter. Every input and output that is not a 0-d scalar
// has the parameter's shape.
#include "core/lower/blocks.h"
#include "core/lower/builder.h"

namespace handmill {
namespace {

template <class Args>
StepInfo cut(Args& args, int64_t size, double flops) {
  args.size = size;
  args.per_block = kBlockElements;
  return {.blocks = ceil_div(size, kBlockElements), .flops = flops * static_cast<double>(size)};
}

}  // namespace

// (p, g, lr) -> p
void lower_sgd_update(const NodeView& node, StepWriter& writer) {
  SgdArgs args{};
  const StepInfo info = cut(args, node.output(0).size(), 2);
  writer.read(&args.p, node.input(0));
  writer.read(&args.g, node.input(1));
  writer.read(&args.lr, node.input(2));
  writer.write(&args.p_out, node.output(0));
  writer.add<Kernel::sgd_update>(args, info);
}

// (p, m, g, lr; momentum, nesterov) -> (p, m)
void lower_momentum_update(const NodeView& node, StepWriter& writer) {
  MomentumArgs args{};
  const StepInfo info = cut(args, node.output(0).size(), node.flag("nesterov") ? 6 : 4);
  args.momentum = static_cast<float>(node.f64("momentum"));
  args.nesterov = node.flag("nesterov");
  writer.read(&args.p, node.input(0));
  writer.read(&args.m, node.input(1));
  writer.read(&args.g, node.input(2));
  writer.read(&args.lr, node.input(3));
  writer.write(&args.p_out, node.output(0));
  writer.write(&args.m_out, node.output(1));
  writer.add<Kernel::momentum_update>(args, info);
}

// (p, m, v, g, alpha[, decay]; beta_1, beta_2, epsilon) -> (p, m, v)
void lower_adam_update(const NodeView& node, StepWriter& writer) {
  AdamArgs args{};
  const StepInfo info = cut(args, node.output(0).size(), node.num_inputs() > 5 ? 14 : 12);
  args.one_minus_beta_1 = static_cast<float>(1.0 - node.f64("beta_1"));
  args.one_minus_beta_2 = static_cast<float>(1.0 - node.f64("beta_2"));
  args.epsilon = static_cast<float>(node.f64("epsilon"));
  writer.read(&args.p, node.input(0));
  writer.read(&args.m, node.input(1));
  writer.read(&args.v, node.input(2));
  writer.read(&args.g, node.input(3));
  writer.read(&args.alpha, node.input(4));
  if (node.num_inputs() > 5) writer.read(&args.decay, node.input(5));
  writer.write(&args.p_out, node.output(0));
  writer.write(&args.m_out, node.output(1));
  writer.write(&args.v_out, node.output(2));
  writer.add<Kernel::adam_update>(args, info);
}

// (p, v, g, lr; rho, epsilon) -> (p, v)
void lower_rmsprop_update(const NodeView& node, StepWriter& writer) {
  RmspropArgs args{};
  const StepInfo info = cut(args, node.output(0).size(), 9);
  args.rho = static_cast<float>(node.f64("rho"));
  args.one_minus_rho = static_cast<float>(1.0 - node.f64("rho"));
  args.epsilon = static_cast<float>(node.f64("epsilon"));
  writer.read(&args.p, node.input(0));
  writer.read(&args.v, node.input(1));
  writer.read(&args.g, node.input(2));
  writer.read(&args.lr, node.input(3));
  writer.write(&args.p_out, node.output(0));
  writer.write(&args.v_out, node.output(1));
  writer.add<Kernel::rmsprop_update>(args, info);
}

// (p, sum, g, lr; epsilon) -> (p, sum)
void lower_adagrad_update(const NodeView& node, StepWriter& writer) {
  AdagradArgs args{};
  const StepInfo info = cut(args, node.output(0).size(), 7);
  args.epsilon = static_cast<float>(node.f64("epsilon"));
  writer.read(&args.p, node.input(0));
  writer.read(&args.sum, node.input(1));
  writer.read(&args.g, node.input(2));
  writer.read(&args.lr, node.input(3));
  writer.write(&args.p_out, node.output(0));
  writer.write(&args.sum_out, node.output(1));
  writer.add<Kernel::adagrad_update>(args, info);
}

}  // namespace handmill
