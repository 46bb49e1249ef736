// matmul_bf16: products of float32 or bfloat16 matrices, rounded to bfloat16 before, summed in
// float32, with an epilogue.
#include "core/lower/builder.h"
#include "core/lower/matmul/bf16_plan.h"
#include "core/lower/matmul/operands.h"

namespace handmill {
namespace {

struct Operands {
  ValueView a, b, c;
  const ValueView *bias, *residual, *grad_of;
};

// Where one product of up to two leading axes starts, in elements.
struct Offsets {
  int64_t a = 0, b = 0, c = 0;
};

Ref part(const ValueView& value, int64_t elements) {
  return Ref(value).at(elements * dtype_bytes(value.dtype));
}

void bind_epilogue(StepWriter& writer, Bf16Epilogue& epilogue, const Operands& x, int64_t at) {
  if (x.bias != nullptr) writer.read(&epilogue.bias, *x.bias);
  if (x.residual != nullptr) writer.read(&epilogue.residual, part(*x.residual, at));
  if (x.grad_of != nullptr) writer.read(&epilogue.grad_of, part(*x.grad_of, at));
}

void add_steps(StepWriter& writer, MatmulBf16Args args, const Operands& x, const Offsets& at) {
  Bf16Plan plan = plan_matmul_bf16(args, writer.isa(), x.b.is_stable);
  if (plan.blocks == 0) return;
  if (plan.packed_bytes > 0) {
    const Ref packed = writer.workspace(plan.packed_bytes);
    writer.read(&plan.pack.b.data, part(x.b, at.b));
    writer.write(&plan.pack.packed, packed);
    writer.add<Kernel::pack_b_bf16>(plan.pack, {.blocks = plan.pack_blocks, .pack = x.b.is_stable});
    writer.read(&args.packed, packed);
  } else {
    writer.read(&args.b.data, part(x.b, at.b));
  }
  writer.read(&args.a.data, part(x.a, at.a));
  const bool in_slices = plan.partial_bytes > 0;
  const Ref partial = writer.workspace(plan.partial_bytes);
  if (in_slices) {
    writer.write(&args.partial, partial);
  } else {
    writer.write(&args.c, part(x.c, at.c));
    bind_epilogue(writer, args.epilogue, x, at.c);
  }
  const double flops = 2.0 * static_cast<double>(args.M * args.N) * static_cast<double>(args.K) *
                       static_cast<double>(args.batch[0] * args.batch[1]);
  writer.add<Kernel::matmul_bf16>(
      args, {.blocks = plan.blocks, .scratch = plan.scratch_bytes, .flops = flops});
  if (!in_slices) return;
  writer.read(&plan.combine.partial, partial);
  writer.write(&plan.combine.c, part(x.c, at.c));
  bind_epilogue(writer, plan.combine.epilogue, x, at.c);
  writer.add<Kernel::matmul_bf16_combine>(
      plan.combine, {.blocks = plan.combine_blocks, .scratch = plan.combine_scratch_bytes});
}

}  // namespace

// (a, b [, bias (N,)] [, residual like c] [, operand of act_grad like c]; transpose_a, transpose_b,
// has_bias, residual, activation, act_grad, imm) -> c = act_grad(act(a b + bias + residual)). Every
// operand and c is float32 or bfloat16.
void lower_matmul_bf16(const NodeView& node, StepWriter& writer) {
  const bool transpose_a = node.flag("transpose_a"), transpose_b = node.flag("transpose_b");
  const std::string_view act_grad = node.text("act_grad");
  const bool has_bias = node.flag("has_bias"), has_residual = node.flag("residual");
  require(node.num_inputs() == 2 + has_bias + has_residual + !act_grad.empty(),
          "matmul_bf16: the attributes ask for another number of operands than the ",
          node.num_inputs(), " given");
  ValueView extra[3] = {node.output(0), node.output(0), node.output(0)};
  Operands x{node.input(0), node.input(1), node.output(0), nullptr, nullptr, nullptr};
  int next = 2;
  const auto take = [&](bool wanted, int slot, const ValueView** place) {
    if (!wanted) return;
    extra[slot] = node.input(next++);
    *place = &extra[slot];
  };
  take(has_bias, 0, &x.bias);
  take(has_residual, 1, &x.residual);
  take(!act_grad.empty(), 2, &x.grad_of);
  const auto is_float = [](Dtype dtype) {
    return dtype == Dtype::float32 || dtype == Dtype::bfloat16;
  };
  for (int i = 0; i < node.num_inputs(); ++i) {
    require(is_float(node.input(i).dtype), "matmul_bf16: operands must be float32 or bfloat16");
  }
  require(is_float(x.c.dtype), "matmul_bf16: the result must be float32 or bfloat16");
  require(x.a.rank() >= 2 && x.b.rank() >= 2 && x.c.rank() >= 2,
          "matmul_bf16: operands need two dimensions");

  int64_t M = x.c.dim(-2);
  const int64_t N = x.c.dim(-1), K = x.a.dim(transpose_a ? -2 : -1);
  require(x.a.dim(transpose_a ? -1 : -2) == M && x.b.dim(transpose_b ? -1 : -2) == K &&
              x.b.dim(transpose_b ? -2 : -1) == N,
          "matmul_bf16: the shapes of the operands do not fit");
  require((x.bias == nullptr || x.bias->size() == N) &&
              (x.residual == nullptr || x.residual->size() == x.c.size()) &&
              (x.grad_of == nullptr || x.grad_of->size() == x.c.size()),
          "matmul_bf16: an operand of the epilogue has another size");
  if (x.c.size() == 0) return;
  std::vector<MatmulAxis> axes;
  if (!transpose_a && x.b.size() == K * N && x.a.size() == x.c.product(0, x.c.rank() - 1) * K) {
    M = x.c.product(0, x.c.rank() - 1);  // one matrix B: the stack of A is one tall matrix
  } else {
    axes = batch_axes({x.a, M * K}, {x.b, K * N}, {x.c, M * N});
  }
  MatmulBf16Args args{};
  args.M = M;
  args.N = N;
  args.K = K;
  args.c_dtype = x.c.dtype;
  args.a = {nullptr, transpose_a ? 1 : K, transpose_a ? M : 1, {0, 0}, x.a.dtype};
  args.b = {nullptr, transpose_b ? 1 : N, transpose_b ? K : 1, {0, 0}, x.b.dtype};
  Bf16Epilogue& epilogue = args.epilogue;
  epilogue.activation = activation_named(node.text("activation"));
  epilogue.grad = activation_grad_named(act_grad);
  epilogue.alpha = static_cast<float>(node.f64("imm", 0.0));
  if (x.bias != nullptr) epilogue.bias_dtype = x.bias->dtype;
  if (x.residual != nullptr) epilogue.residual_dtype = x.residual->dtype;
  if (x.grad_of != nullptr) epilogue.grad_dtype = x.grad_of->dtype;

  const size_t outer = axes.size() > 2 ? axes.size() - 2 : 0;
  // The two innermost axes belong to the kernel, the outer ones to this loop.
  for (size_t i = 0; i < 2; ++i) {
    const size_t position = axes.size() + i;  // of the axis, counted from 2 in front
    const MatmulAxis axis = position >= 2 ? axes[position - 2] : MatmulAxis{1, 0, 0, 0};
    args.batch[i] = axis.extent;
    args.a.batch[i] = axis.a;
    args.b.batch[i] = axis.b;
    args.c_batch[i] = axis.c;
  }
  std::vector<int64_t> index(outer, 0);
  while (true) {
    Offsets at;
    for (size_t d = 0; d < outer; ++d) {
      at.a += index[d] * axes[d].a;
      at.b += index[d] * axes[d].b;
      at.c += index[d] * axes[d].c;
    }
    add_steps(writer, args, x, at);
    size_t d = outer;
    while (d > 0 && ++index[d - 1] == axes[d - 1].extent) index[--d] = 0;
    if (d == 0) return;
  }
}

}  // namespace handmill
