#include "core/lower/optimizer/optimizer.h"

#include "core/lower/blocks.h"

namespace handmill {
namespace {

// Behind the other scalars.
bool has_penalty(const NodeView& node) { return node.flag("penalty"); }

bool has_decay(const UpdateOperands& x) {
  return x.first_scalar + 1 + has_penalty(x.node) < x.node.num_inputs();
}

class Binder {
 public:
  Binder(const UpdateOperands& operands, LaunchWriter& writer) : x_(operands), writer_(writer) {}

  // (p, lr) -> p
  void bind(SgdArgs& args) {
    array(&args.p, &args.p_out, 0);
    scalar(&args.lr, 0);
  }

  // (p, m, lr; momentum, nesterov) -> (p, m)
  void bind(MomentumArgs& args) {
    args.momentum = attribute("momentum");
    args.nesterov = x_.node.flag("nesterov");
    array(&args.p, &args.p_out, 0);
    array(&args.m, &args.m_out, 1);
    scalar(&args.lr, 0);
  }

  // (p, m, v, alpha[, decay]; beta_1, beta_2, epsilon) -> (p, m, v)
  void bind(AdamArgs& args) {
    args.one_minus_beta_1 = one_minus("beta_1");
    args.one_minus_beta_2 = one_minus("beta_2");
    args.epsilon = attribute("epsilon");
    array(&args.p, &args.p_out, 0);
    array(&args.m, &args.m_out, 1);
    array(&args.v, &args.v_out, 2);
    scalar(&args.alpha, 0);
    if (has_decay(x_)) scalar(&args.decay, 1);
  }

  // (p, v, lr; rho, epsilon) -> (p, v)
  void bind(RmspropArgs& args) {
    args.rho = attribute("rho");
    args.one_minus_rho = one_minus("rho");
    args.epsilon = attribute("epsilon");
    array(&args.p, &args.p_out, 0);
    array(&args.v, &args.v_out, 1);
    scalar(&args.lr, 0);
  }

  // (p, sum, lr; epsilon) -> (p, sum)
  void bind(AdagradArgs& args) {
    args.epsilon = attribute("epsilon");
    array(&args.p, &args.p_out, 0);
    array(&args.sum, &args.sum_out, 1);
    scalar(&args.lr, 0);
  }

  template <class Args>
  void bind_with_penalty(Args& args) {
    bind(args);
    if (has_penalty(x_.node)) {
      writer_.read(&args.penalty, x_.node.input(x_.node.num_inputs() - 1));
    }
  }

  template <Kernel kernel>
  void add(const Gradient& gradient, int64_t size, double flops) {
    KernelArgs<kernel> args{};
    bind_with_penalty(args);
    writer_.read(&args.g, gradient.values);
    if (gradient.scale != nullptr) {
      writer_.read(&args.scale, *gradient.scale);
      flops += 1;
    }
    args.size = size;
    args.per_block = kBlockElements;
    writer_.add<kernel>(args, {.blocks = ceil_div(size, kBlockElements),
                               .flops = flops * static_cast<double>(size)});
  }

 private:
  void array(const float** old_field, float** new_field, int i) {
    writer_.read(old_field, x_.node.input(x_.first_array + i));
    writer_.write(new_field, x_.node.output(i));
  }
  void scalar(const float** field, int i) {
    writer_.read(field, x_.node.input(x_.first_scalar + i));
  }
  float attribute(std::string_view name) const { return static_cast<float>(x_.node.f64(name)); }
  float one_minus(std::string_view name) const {
    return static_cast<float>(1.0 - x_.node.f64(name));
  }

  const UpdateOperands& x_;
  LaunchWriter& writer_;
};

struct Rule {
  std::string_view name;
  UpdateRule rule;
  double flops;  // of an element, without options
};

constexpr Rule kRules[] = {
    {"sgd_update", UpdateRule::kSgd, 2},         {"momentum_update", UpdateRule::kMomentum, 4},
    {"adam_update", UpdateRule::kAdam, 12},      {"rmsprop_update", UpdateRule::kRmsprop, 9},
    {"adagrad_update", UpdateRule::kAdagrad, 7},
};

const Rule& rule_of(std::string_view name) {
  for (const Rule& rule : kRules) {
    if (rule.name == name) return rule;
  }
  throw std::invalid_argument(concat("there is no update named \"", name, "\""));
}

}  // namespace

double update_flops(std::string_view name, const UpdateOperands& operands) {
  const NodeView& node = operands.node;
  const bool looks_ahead = node.flag("nesterov");
  return rule_of(name).flops + (looks_ahead ? 2 : 0) + (has_decay(operands) ? 2 : 0) +
         (has_penalty(node) ? 2 : 0);
}

void bind_update(UpdateArgs& update, std::string_view name, const UpdateOperands& operands,
                 LaunchWriter& writer) {
  Binder binder(operands, writer);
  update.rule = rule_of(name).rule;
  switch (update.rule) {
    case UpdateRule::kNone:
      return;
    case UpdateRule::kSgd:
      return binder.bind_with_penalty(update.sgd = {});
    case UpdateRule::kMomentum:
      return binder.bind_with_penalty(update.momentum = {});
    case UpdateRule::kAdam:
      return binder.bind_with_penalty(update.adam = {});
    case UpdateRule::kRmsprop:
      return binder.bind_with_penalty(update.rmsprop = {});
    case UpdateRule::kAdagrad:
      return binder.bind_with_penalty(update.adagrad = {});
  }
}

void add_update(std::string_view name, const UpdateOperands& operands, const Gradient& gradient,
                int64_t size, LaunchWriter& writer) {
  const double flops = update_flops(name, operands);
  Binder binder(operands, writer);
  switch (rule_of(name).rule) {
    case UpdateRule::kNone:
      return;
    case UpdateRule::kSgd:
      return binder.add<Kernel::sgd_update>(gradient, size, flops);
    case UpdateRule::kMomentum:
      return binder.add<Kernel::momentum_update>(gradient, size, flops);
    case UpdateRule::kAdam:
      return binder.add<Kernel::adam_update>(gradient, size, flops);
    case UpdateRule::kRmsprop:
      return binder.add<Kernel::rmsprop_update>(gradient, size, flops);
    case UpdateRule::kAdagrad:
      return binder.add<Kernel::adagrad_update>(gradient, size, flops);
  }
}

// (p, ..., g, scalars...; update, penalty) -> (p, ...)
void lower_update(const NodeView& node, LaunchWriter& writer) {
  const int arrays = node.num_outputs();
  add_update(node.text("update"), {node, 0, arrays + 1}, {node.input(arrays)},
             node.output(0).size(), writer);
}

// (g, scale, p, ..., scalars...; update) -> (p, ...): by the gradient g * scale
void lower_scaled_update(const NodeView& node, LaunchWriter& writer) {
  const Ref scale = node.input(1);
  add_update(node.text("update"), {node, 2, 2 + node.num_outputs()}, {node.input(0), &scale},
             node.output(0).size(), writer);
}

}  // namespace handmill
