// matmul and linear: products of matrices or of stacks of them, with an epilogue.

#include <algorithm>
#include <utility>

#include "core/lower/builder.h"
#include "core/lower/matmul/operands.h"
#include "core/lower/matmul/plan.h"
#include "core/lower/optimizer/optimizer.h"

namespace handmill {
namespace {

template <class Enum>
using Names = std::span<const std::pair<std::string_view, Enum>>;

constexpr std::pair<std::string_view, Activation> kActivations[] = {
    {"", Activation::kNone},
    {"linear", Activation::kNone},
    {"relu", Activation::kRelu},
    {"relu6", Activation::kRelu6},
    {"leaky_relu", Activation::kLeakyRelu},
    {"elu", Activation::kElu},
    {"selu", Activation::kSelu},
    {"sigmoid", Activation::kSigmoid},
    {"hard_sigmoid", Activation::kHardSigmoid},
    {"tanh", Activation::kTanh},
    {"softplus", Activation::kSoftplus},
    {"softsign", Activation::kSoftsign},
    {"silu", Activation::kSilu},
    {"hard_silu", Activation::kHardSilu},
    {"gelu", Activation::kGelu},
    {"gelu_tanh", Activation::kGeluTanh},
    {"exp", Activation::kExp},
    {"square", Activation::kSquare},
};

constexpr std::pair<std::string_view, ActivationGrad> kActivationGrads[] = {
    {"", ActivationGrad::kNone},
    {"multiply", ActivationGrad::kMultiply},
    {"relu", ActivationGrad::kRelu},
    {"relu6", ActivationGrad::kRelu6},
    {"leaky_relu", ActivationGrad::kLeakyRelu},
    {"elu", ActivationGrad::kElu},
    {"selu", ActivationGrad::kSelu},
    {"sigmoid", ActivationGrad::kSigmoid},
    {"hard_sigmoid", ActivationGrad::kHardSigmoid},
    {"tanh", ActivationGrad::kTanh},
    {"softplus", ActivationGrad::kSoftplus},
    {"softsign", ActivationGrad::kSoftsign},
    {"exp", ActivationGrad::kExp},
    {"silu", ActivationGrad::kSilu},
    {"gelu", ActivationGrad::kGelu},
    {"gelu_tanh", ActivationGrad::kGeluTanh},
};

template <class Enum>
Enum find(Names<Enum> names, std::string_view name) {
  for (const auto& [known, value] : names) {
    if (known == name) return value;
  }
  throw std::invalid_argument(concat("matmul: there is no epilogue named \"", name, "\""));
}

}  // namespace

Activation activation_named(std::string_view name) {
  return find(Names<Activation>(kActivations), name);
}

ActivationGrad activation_grad_named(std::string_view name) {
  return find(Names<ActivationGrad>(kActivationGrads), name);
}

std::vector<MatmulAxis> batch_axes(const MatmulOperand& a, const MatmulOperand& b,
                                   const MatmulOperand& c) {
  std::vector<MatmulAxis> axes;  // innermost first
  int64_t a_stride = a.matrix, b_stride = b.matrix, c_stride = c.matrix;
  for (int i = 1; i <= c.value.rank() - 2; ++i) {
    const int64_t extent = c.extent(i), of_a = a.extent(i), of_b = b.extent(i);
    require((of_a == extent || of_a == 1) && (of_b == extent || of_b == 1),
            "matmul: leading dimensions do not broadcast");
    const MatmulAxis axis{extent, of_a == 1 ? 0 : a_stride, of_b == 1 ? 0 : b_stride, c_stride};
    a_stride *= of_a;
    b_stride *= of_b;
    c_stride *= extent;
    if (extent == 1) continue;
    if (!axes.empty()) {
      MatmulAxis& inner = axes.back();
      if (axis.a == inner.a * inner.extent && axis.b == inner.b * inner.extent &&
          axis.c == inner.c * inner.extent) {
        inner.extent *= extent;
        continue;
      }
    }
    axes.push_back(axis);
  }
  std::reverse(axes.begin(), axes.end());
  return axes;
}

namespace {

struct Operands {
  ValueView a, b;
  Ref c;
  const ValueView *bias = nullptr, *residual = nullptr, *grad_of = nullptr;
  const UpdateOperands* update = nullptr;  // of a parameter by c, which is not written then
};

// One product of matrices or stacks with up to two axes: where it begins, in bytes.
struct Offsets {
  int64_t a = 0, b = 0, c = 0;
};

// What one product touches of its operands: the bytes from the first element of a stack of matrices
// to its last.
struct Extents {
  int64_t a, b, c;

  explicit Extents(const MatmulArgs& args) {
    const auto extent = [&](int64_t matrix, const int64_t* strides) {
      return 4 * (matrix + (args.batch[0] - 1) * strides[0] + (args.batch[1] - 1) * strides[1]);
    };
    a = extent(args.M * args.K, args.a_batch);
    b = extent(args.K * args.N, args.b_batch);
    c = extent(args.M * args.N, args.c_batch);
  }
};

void bind_epilogue(StepWriter& writer, MatmulEpilogue& epilogue, const Operands& x, int64_t offset,
                   int64_t extent) {
  if (x.bias != nullptr) writer.read(&epilogue.bias, *x.bias);
  if (x.residual != nullptr) writer.read(&epilogue.residual, Ref(*x.residual).at(offset, extent));
  if (x.grad_of != nullptr) writer.read(&epilogue.grad_of, Ref(*x.grad_of).at(offset, extent));
}

void add_steps(StepWriter& writer, MatmulPlan plan, const Operands& x, const Offsets& at) {
  const Ref workspace = writer.workspace(plan.workspace_bytes);
  const Extents extent(plan.matmul);
  const bool once = plan.constant_bytes > 0;
  const int64_t end_of_packed =
      plan.partial_offset >= 0 ? plan.partial_offset : plan.workspace_bytes;
  const bool packs = once || plan.packed_offset >= 0;
  const Ref packed = once    ? writer.workspace(plan.constant_bytes)
                     : packs ? workspace.at(plan.packed_offset, end_of_packed - plan.packed_offset)
                             : workspace;
  double flops = 2.0 * static_cast<double>(plan.matmul.M * plan.matmul.N) *
                 static_cast<double>(plan.matmul.K) *
                 static_cast<double>(plan.matmul.batch[0] * plan.matmul.batch[1]);
  const bool in_slices = plan.partial_offset >= 0;
  const double flops_to_combine =
      static_cast<double>((plan.combine.slices - 1) * plan.matmul.M * plan.matmul.N) *
      static_cast<double>(plan.matmul.batch[0] * plan.matmul.batch[1]);
  for (const MatmulStep& step : plan.steps) {
    StepInfo info{.blocks = step.blocks, .scratch = step.scratch_bytes};
    switch (step.kernel) {
      case MatmulKernel::kPackB: {
        MatmulPackArgs& args = plan.pack;
        writer.read(&args.b, Ref(x.b).at(at.b, extent.b));
        writer.write(&args.packed, packed);
        info.pack = once;
        writer.add<Kernel::pack_b>(args, info);
        break;
      }
      case MatmulKernel::kMatmul: {
        MatmulArgs& args = plan.matmul;
        writer.read(&args.a, Ref(x.a).at(at.a, extent.a));
        writer.read(&args.b, packs ? packed : Ref(x.b).at(at.b, extent.b));
        if (in_slices) {
          writer.write(&args.partial, workspace.at(plan.partial_offset));
        } else if (x.update != nullptr) {
          const std::string_view update = x.update->node.text("update");
          bind_update(args.update, update, *x.update, writer);
          flops += update_flops(update, *x.update) * static_cast<double>(args.M * args.N);
        } else {
          writer.write(&args.c, x.c.at(at.c, extent.c));
          bind_epilogue(writer, args.epilogue, x, at.c, extent.c);
        }
        info.flops = flops;
        writer.add<Kernel::matmul>(args, info);
        break;
      }
      case MatmulKernel::kCombine: {
        MatmulCombineArgs& args = plan.combine;
        writer.read(&args.partial, workspace.at(plan.partial_offset));
        writer.write(&args.c, x.c.at(at.c, extent.c));
        bind_epilogue(writer, args.epilogue, x, at.c, extent.c);
        info.flops = flops_to_combine;
        writer.add<Kernel::matmul_combine>(args, info);
        break;
      }
    }
  }
}

MatmulTile tile_of(Isa isa) {
  switch (isa) {
    case Isa::avx512_bf16:
    case Isa::avx512:
      return kMatmulTileAvx512;
    case Isa::avx2:
      return kMatmulTileAvx2;
    default:
      return kMatmulTilePortable;
  }
}

// Whether the kernel can update a parameter by C (see MatmulArgs).
bool can_update(const MatmulArgs& args) {
  return args.chunks == 1 && args.slices == 1 && args.b_layout != MatmulBLayout::kTransposed &&
         !args.by_rows_of_b;
}

// A column C = A^T B is the row B^T A, which reads A along its rows.
bool is_turned_column(int64_t M, int64_t N, bool transpose_a) {
  return N == 1 && M > 1 && transpose_a;
}

// A product of two matrices.
void describe(MatmulArgs& args, int64_t M, int64_t N, int64_t K, bool transpose_a,
              bool transpose_b) {
  args.M = M;
  args.N = N;
  args.c_row = N;
  args.K = K;
  args.a_row = transpose_a ? 1 : K;
  args.a_col = transpose_a ? M : 1;
  args.b_row = transpose_b ? 1 : N;
  args.b_col = transpose_b ? K : 1;
}

}  // namespace

// (a, b [, bias (N,)] [, residual like c] [, operand of act_grad like c]; transpose_a, transpose_b,
// has_bias, residual, activation, act_grad, imm) -> c = act_grad(act(a b + bias + residual))
void lower_matmul(const NodeView& node, StepWriter& writer) {
  const bool transpose_a = node.flag("transpose_a"), transpose_b = node.flag("transpose_b");
  const std::string_view act_grad = node.text("act_grad");
  const bool has_bias = node.flag("has_bias"), has_residual = node.flag("residual");
  require(node.num_inputs() == 2 + has_bias + has_residual + !act_grad.empty(),
          "matmul: the attributes ask for another number of operands than the ", node.num_inputs(),
          " given");
  const ValueView c = node.output(0);
  ValueView extra[3] = {c, c, c};
  Operands x{node.input(0), node.input(1), c};
  int next = 2;
  const auto take = [&](bool wanted, int slot, const ValueView** place) {
    if (!wanted) return;
    extra[slot] = node.input(next++);
    *place = &extra[slot];
  };
  take(has_bias, 0, &x.bias);
  take(has_residual, 1, &x.residual);
  take(!act_grad.empty(), 2, &x.grad_of);
  for (int i = 0; i < node.num_inputs(); ++i) {
    require(node.input(i).dtype == Dtype::float32, "matmul: operands must be float32");
  }
  require(x.a.rank() >= 2 && x.b.rank() >= 2 && c.rank() >= 2,
          "matmul: operands need two dimensions");

  MatmulProblem problem;
  MatmulArgs& args = problem.args;
  int64_t M = c.dim(-2);
  const int64_t N = c.dim(-1), K = x.a.dim(transpose_a ? -2 : -1);
  require(x.a.dim(transpose_a ? -1 : -2) == M && x.b.dim(transpose_b ? -1 : -2) == K &&
              x.b.dim(transpose_b ? -2 : -1) == N,
          "matmul: the shapes of the operands do not fit");
  require((x.bias == nullptr || x.bias->size() == N) &&
              (x.residual == nullptr || x.residual->size() == c.size()) &&
              (x.grad_of == nullptr || x.grad_of->size() == c.size()),
          "matmul: an operand of the epilogue has another size");
  if (c.size() == 0) return;
  std::vector<MatmulAxis> axes;
  if (!transpose_a && x.b.size() == K * N && x.a.size() == c.product(0, c.rank() - 1) * K) {
    M = c.product(0, c.rank() - 1);  // one matrix B: the stack of A is one tall matrix
  } else {
    axes = batch_axes({x.a, M * K}, {x.b, K * N}, {c, M * N});
  }
  const bool has_epilogue = node.num_inputs() > 2 || !node.text("activation").empty();
  if (axes.empty() && is_turned_column(M, N, transpose_a) && !has_epilogue) {
    std::swap(x.a, x.b);
    describe(args, 1, M, K, false, false);
  } else {
    describe(args, M, N, K, transpose_a, transpose_b);
  }
  problem.tile = tile_of(writer.isa());
  problem.tuning = current_tuning().matmul(writer.isa());
  problem.constant_b = x.b.is_stable;
  MatmulEpilogue& epilogue = args.epilogue;
  epilogue.activation = activation_named(node.text("activation"));
  epilogue.grad = activation_grad_named(act_grad);
  epilogue.alpha = static_cast<float>(node.f64("imm", 0.0));
  epilogue.residual_row = epilogue.grad_row = N;

  const size_t outer = axes.size() > 2 ? axes.size() - 2 : 0;
  // The two innermost axes belong to the kernel, the outer ones to this loop.
  for (size_t i = 0; i < 2; ++i) {
    const size_t position = axes.size() + i;  // of the axis, counted from 2 in front
    const MatmulAxis axis = position >= 2 ? axes[position - 2] : MatmulAxis{1, 0, 0, 0};
    args.batch[i] = axis.extent;
    args.a_batch[i] = axis.a;
    args.b_batch[i] = axis.b;
    args.c_batch[i] = epilogue.residual_batch[i] = epilogue.grad_batch[i] = axis.c;
  }
  std::vector<int64_t> index(outer, 0);
  while (true) {
    Offsets at;
    for (size_t d = 0; d < outer; ++d) {
      at.a += index[d] * axes[d].a * 4;
      at.b += index[d] * axes[d].b * 4;
      at.c += index[d] * axes[d].c * 4;
    }
    add_steps(writer, plan_matmul(problem), x, at);
    size_t d = outer;
    while (d > 0 && ++index[d - 1] == axes[d - 1].extent) index[--d] = 0;
    if (d == 0) return;
  }
}

// (a, b, p, ..., scalars...; transpose_a, transpose_b, update and its attributes) -> (p, ...)
// p is updated by the gradient a b, a matrix of its shape.
void lower_matmul_update(const NodeView& node, StepWriter& writer) {
  const bool transpose_a = node.flag("transpose_a"), transpose_b = node.flag("transpose_b");
  ValueView a = node.input(0), b = node.input(1);
  const ValueView p = node.output(0);
  require(a.rank() == 2 && b.rank() == 2 && p.rank() == 2, "matmul_update: matrices are needed");
  for (int i = 0; i < node.num_inputs(); ++i) {
    require(node.input(i).dtype == Dtype::float32, "matmul_update: operands must be float32");
  }
  const int64_t M = p.dim(0), N = p.dim(1), K = a.dim(transpose_a ? 0 : 1);
  require(a.dim(transpose_a ? 1 : 0) == M && b.dim(transpose_b ? 1 : 0) == K &&
              b.dim(transpose_b ? 0 : 1) == N,
          "matmul_update: the shapes of the operands do not fit");
  if (p.size() == 0) return;
  MatmulProblem problem;
  if (is_turned_column(M, N, transpose_a)) {
    std::swap(a, b);
    describe(problem.args, 1, M, K, false, false);
  } else {
    describe(problem.args, M, N, K, transpose_a, transpose_b);
  }
  problem.args.batch[0] = problem.args.batch[1] = 1;
  problem.tile = tile_of(writer.isa());
  problem.tuning = current_tuning().matmul(writer.isa());
  problem.tuning.few_rows = 0;  // no taller tile applies the one before it
  const UpdateOperands update{node, 2, 2 + node.num_outputs()};
  const MatmulPlan plan = plan_matmul(problem);
  if (can_update(plan.matmul)) {
    add_steps(writer, plan, {.a = a, .b = b, .c = p, .update = &update}, {});
    return;
  }
  const Ref gradient = writer.workspace(p.bytes());
  add_steps(writer, plan, {.a = a, .b = b, .c = gradient}, {});
  add_update(node.text("update"), update, {gradient}, p.size(), writer);
}

}  // namespace handmill
