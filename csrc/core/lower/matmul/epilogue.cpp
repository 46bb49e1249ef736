#include "core/lower/matmul/epilogue.h"

namespace handmill {
namespace {

[[noreturn]] void no_epilogue(std::string_view name) {
  throw std::invalid_argument(concat("there is no epilogue named \"", name, "\""));
}

Activation activation_named(std::string_view name) {
  if (name.empty()) return Activation::none;
#define HM_ACTIVATION(known) \
  if (name == #known) return Activation::known;
#include "kernels/matmul/epilogues.def"
  no_epilogue(name);
}

ActivationGrad activation_grad_named(std::string_view name) {
  if (name.empty()) return ActivationGrad::none;
#define HM_ACTIVATION_GRAD(known) \
  if (name == #known) return ActivationGrad::known;
#include "kernels/matmul/epilogues.def"
  no_epilogue(name);
}

}  // namespace

EpilogueOperands epilogue_of(const NodeView& node, int count, MatmulEpilogue& epilogue) {
  const bool has_scale = node.flag("has_scale"), has_bias = node.flag("has_bias");
  const bool has_residual = node.flag("residual");
  const std::string_view act_grad = node.text("act_grad");
  require(node.num_inputs() == count + has_scale + has_bias + has_residual + !act_grad.empty(),
          node.kernel(), ": the attributes ask for another number of operands than the ",
          node.num_inputs(), " given");
  const ValueView c = node.output(0);
  EpilogueOperands found;
  const auto take = [&](bool wanted, int64_t size, std::optional<ValueView>& operand,
                        Dtype& dtype) {
    if (!wanted) return;
    operand = node.input(count++);
    require(operand->size() == size, node.kernel(),
            ": an operand of the epilogue has another size");
    dtype = operand->dtype;
  };
  take(has_scale, c.dim(-1), found.scale, epilogue.scale_dtype);
  take(has_bias, c.dim(-1), found.bias, epilogue.bias_dtype);
  take(has_residual, c.size(), found.residual, epilogue.residual_dtype);
  take(!act_grad.empty(), c.size(), found.grad_of, epilogue.grad_dtype);
  epilogue.activation = activation_named(node.text("activation"));
  epilogue.grad = activation_grad_named(act_grad);
  return found;
}

void bind_epilogue(LaunchWriter& writer, MatmulEpilogue& epilogue, const EpilogueOperands& operands,
                   int64_t offset, int64_t extent) {
  const auto part = [&](const ValueView& whole) {
    const int64_t bytes = dtype_bytes(whole.dtype);
    return Ref(whole).at(offset * bytes, extent * bytes);
  };
  if (operands.scale) writer.read(&epilogue.scale, *operands.scale);
  if (operands.bias) writer.read(&epilogue.bias, *operands.bias);
  if (operands.residual) writer.read(&epilogue.residual, part(*operands.residual));
  if (operands.grad_of) writer.read(&epilogue.grad_of, part(*operands.grad_of));
}

}  // namespace handmill
