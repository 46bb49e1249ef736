// Products of matrices or of stacks of them, of any type of numbers, with an epilogue or an update.
#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "core/lower/blocks.h"
#include "core/lower/builder.h"
#include "core/lower/matmul/epilogue.h"
#include "core/lower/matmul/plan.h"
#include "core/lower/optimizer/optimizer.h"
#include "core/lower/strided.h"

namespace handmill {
namespace {

// An axis of the stacks, with the strides of the operands, 0 where they repeat.
struct Axis {
  int64_t extent, a, b, c;
};

struct Stack {
  const ValueView& value;
  int64_t matrix;  // elements of one matrix

  int64_t extent(int from_end) const {  // of a leading axis; the last of them is 1
    const int axis = value.rank() - 2 - from_end;
    return axis < 0 ? 1 : value.dim(axis);
  }
};

// The leading axes, outermost first, those of one element left out and neighbours merged where all
// operands step from one to the other without a gap.
std::vector<Axis> leading_axes(const Stack& a, const Stack& b, const Stack& c) {
  std::vector<Axis> axes;  // innermost first
  int64_t a_stride = a.matrix, b_stride = b.matrix, c_stride = c.matrix;
  for (int i = 1; i <= c.value.rank() - 2; ++i) {
    const int64_t extent = c.extent(i), of_a = a.extent(i), of_b = b.extent(i);
    require((of_a == extent || of_a == 1) && (of_b == extent || of_b == 1),
            "matmul: leading dimensions do not broadcast");
    const Axis axis{extent, of_a == 1 ? 0 : a_stride, of_b == 1 ? 0 : b_stride, c_stride};
    a_stride *= of_a;
    b_stride *= of_b;
    c_stride *= extent;
    if (extent == 1) continue;
    if (!axes.empty()) {
      Axis& inner = axes.back();
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

struct Operands {
  ValueView a, b;
  Ref c;
  EpilogueOperands epilogue = {};
  const UpdateOperands* update = nullptr;  // of a parameter by c, which is not written then
};

// Where one product of matrices or stacks with up to two axes begins, in elements.
struct Offsets {
  int64_t a = 0, b = 0, c = 0;
};

// What one product touches of its operands: the elements from the first one of a stack of matrices
// to its last.
struct Extents {
  int64_t a, b, c;

  explicit Extents(const MatmulArgs& args) {
    const auto extent = [&](int64_t matrix, const int64_t* strides) {
      return matrix + (args.batch[0] - 1) * strides[0] + (args.batch[1] - 1) * strides[1];
    };
    a = extent(args.M * args.K, args.a.batch);
    b = extent(args.K * args.N, args.b.batch);
    c = extent(args.M * args.N, args.c_batch);
  }
};

Ref part(const Ref& whole, Dtype dtype, int64_t offset, int64_t extent) {
  return whole.at(offset * dtype_bytes(dtype), extent * dtype_bytes(dtype));
}

// The kernels of a type of numbers.
template <Kernel kPack, Kernel kProduct, Kernel kCombine>
struct Kernels {
  static void add_launches(LaunchWriter& writer, const MatmulProblem& problem, const Operands& x,
                           const Offsets& at) {
    add_launches(writer, problem, plan_matmul(problem), x, at);
  }

  static void add_launches(LaunchWriter& writer, const MatmulProblem& problem, MatmulPlan plan,
                           const Operands& x, const Offsets& at) {
    if (plan.blocks == 0) return;
    const Extents extent(problem.args);
    MatmulArgs& args = plan.matmul;
    const Ref b = part(x.b, x.b.dtype, at.b, extent.b);
    if (args.b_layout == MatmulBLayout::kPacked) {
      const Ref packed = writer.workspace(plan.packed_bytes);
      writer.read(&plan.pack.b.data, b);
      writer.write(&plan.pack.packed, packed);
      writer.add<kPack>(plan.pack, {.blocks = plan.pack_blocks, .pack = problem.constant_b});
      writer.read(&args.b.data, packed);
    } else {
      writer.read(&args.b.data, b);
    }
    writer.read(&args.a.data, part(x.a, x.a.dtype, at.a, extent.a));
    const double elements =
        static_cast<double>(args.M * args.N) * static_cast<double>(args.batch[0] * args.batch[1]);
    LaunchInfo info{.blocks = plan.blocks,
                    .scratch = plan.scratch_bytes,
                    .flops = 2.0 * elements * static_cast<double>(args.K)};
    const Ref c = part(x.c, args.c_dtype, at.c, extent.c);
    if (args.slices > 1) {
      const Ref partial = writer.workspace(plan.partial_bytes);
      writer.write(&args.partial, partial);
      writer.add<kProduct>(args, info);
      MatmulCombineArgs& combine = plan.combine;
      writer.read(&combine.partial, partial);
      writer.write(&combine.c, c);
      bind_epilogue(writer, combine.epilogue, x.epilogue, at.c, extent.c);
      writer.add<kCombine>(combine, {.blocks = plan.combine_blocks,
                                     .scratch = plan.combine_scratch_bytes,
                                     .flops = static_cast<double>(args.slices - 1) * elements});
      return;
    }
    if (x.update != nullptr) {
      const std::string_view update = x.update->node.text("update");
      bind_update(args.update, update, *x.update, writer);
      info.flops += update_flops(update, *x.update) * elements;
    } else {
      writer.write(&args.c, c);
      bind_epilogue(writer, args.epilogue, x.epilogue, at.c, extent.c);
    }
    writer.add<kProduct>(args, info);
  }
};

using Float32Kernels = Kernels<Kernel::pack_b, Kernel::matmul, Kernel::matmul_combine>;
using Bfloat16Kernels =
    Kernels<Kernel::pack_b_bf16, Kernel::matmul_bf16, Kernel::matmul_bf16_combine>;

// Whether the kernel can update a parameter by C (see MatmulArgs).
bool can_update(const MatmulArgs& args) {
  return args.chunks == 1 && args.slices == 1 && args.b_layout != MatmulBLayout::kTransposed &&
         !args.by_rows_of_b;
}

// A column C = A^T B is the row B^T A, which reads A along its rows.
bool is_turned_column(int64_t M, int64_t N, bool transpose_a) {
  return N == 1 && M > 1 && transpose_a;
}

// From so long sums and so many products on, and for results that stay in L2, turning the result
// costs little beside making it.
constexpr int64_t kTurnedSum = 384;
constexpr int64_t kTurnedProducts = int64_t{1} << 21;
constexpr int64_t kTurnedSize = 384 * 1024;
// Columns of one panel, and of two vectors, of the widest level: all levels turn alike.
constexpr int64_t kWholePanel = 64, kWholeVectors = 32;

// A long sum C = A^T B of more rows than columns is computed as B^T A and turned back, so that the
// operand of which a tile reads a few elements of each row is the one of shorter rows. Not where
// the columns are one panel of whole pairs of vectors: nothing is gained then.
bool is_turned_sum(int64_t M, int64_t N, int64_t K) {
  const bool fits = N <= kWholePanel && N % kWholeVectors == 0;
  return M > N && N > 1 && !fits && K >= kTurnedSum && M * N <= kTurnedSize &&
         M * N >= kTurnedProducts / K;
}

// A product of two matrices.
void describe(MatmulArgs& args, int64_t M, int64_t N, int64_t K, bool transpose_a,
              bool transpose_b) {
  args.M = M;
  args.N = N;
  args.c_row = N;
  args.K = K;
  args.a.row = transpose_a ? 1 : K;
  args.a.col = transpose_a ? M : 1;
  args.b.row = transpose_b ? 1 : N;
  args.b.col = transpose_b ? K : 1;
}

MatmulProblem problem_of(const MatmulNumbers& numbers, const LaunchWriter& writer,
                         bool constant_b) {
  return {.numbers = numbers,
          .isa = writer.isa(),
          .tuning = current_tuning().matmul(writer.isa()),
          .constant_b = constant_b,
          .rows_alone = writer.rows_alone()};
}

void check_dtypes(const NodeView& node, const MatmulNumbers& numbers) {
  for (int i = 0; i < node.num_inputs(); ++i) {
    require(numbers.takes(node.input(i).dtype), node.kernel(), ": operands must be ",
            numbers.dtypes_text);
  }
  require(numbers.takes(node.output(0).dtype), node.kernel(), ": the result must be ",
          numbers.dtypes_text);
}

template <class Kernels>
void lower_product(const NodeView& node, LaunchWriter& writer, const MatmulNumbers& numbers) {
  const bool transpose_a = node.flag("transpose_a"), transpose_b = node.flag("transpose_b");
  require(node.num_inputs() >= 2, node.kernel(), ": two operands are needed");
  const ValueView c = node.output(0);
  MatmulEpilogue epilogue{};
  Operands x{.a = node.input(0), .b = node.input(1), .c = c};
  x.epilogue = epilogue_of(node, 2, epilogue);
  check_dtypes(node, numbers);
  require(x.a.rank() >= 2 && x.b.rank() >= 2 && c.rank() >= 2, node.kernel(),
          ": operands need two dimensions");

  int64_t M = c.dim(-2);
  const int64_t N = c.dim(-1), K = x.a.dim(transpose_a ? -2 : -1);
  require(x.a.dim(transpose_a ? -1 : -2) == M && x.b.dim(transpose_b ? -1 : -2) == K &&
              x.b.dim(transpose_b ? -2 : -1) == N,
          node.kernel(), ": the shapes of the operands do not fit");
  if (c.size() == 0) return;
  std::vector<Axis> axes;
  if (!transpose_a && x.b.size() == K * N && x.a.size() == c.product(0, c.rank() - 1) * K) {
    M = c.product(0, c.rank() - 1);  // one matrix B: the stack of A is one tall matrix
  } else {
    axes = leading_axes({x.a, M * K}, {x.b, K * N}, {c, M * N});
  }
  const bool has_epilogue = node.num_inputs() > 2 || !node.text("activation").empty();
  const bool may_turn = numbers.reads_in_place && axes.empty() && !has_epilogue;
  if (may_turn && transpose_a && !transpose_b && is_turned_sum(M, N, K)) {
    std::swap(x.a, x.b);
    x.c = writer.workspace(round_up(c.bytes(), 64));
    MatmulProblem problem = problem_of(numbers, writer, x.b.is_stable);
    MatmulArgs& args = problem.args;
    describe(args, N, M, K, true, false);
    args.a.dtype = x.a.dtype;
    args.b.dtype = x.b.dtype;
    args.c_dtype = c.dtype;
    args.batch[0] = args.batch[1] = 1;
    Kernels::add_launches(writer, problem, x, {});
    return transpose_into(writer, c, x.c, std::array{N, M}, std::array<int64_t, 2>{1, 0},
                          dtype_bytes(c.dtype));
  }
  const bool turned = may_turn && is_turned_column(M, N, transpose_a);
  if (turned) std::swap(x.a, x.b);
  MatmulProblem problem = problem_of(numbers, writer, x.b.is_stable);
  MatmulArgs& args = problem.args;
  if (turned) {
    describe(args, 1, M, K, false, false);
  } else {
    describe(args, M, N, K, transpose_a, transpose_b);
  }
  args.a.dtype = x.a.dtype;
  args.b.dtype = x.b.dtype;
  args.c_dtype = c.dtype;
  args.epilogue = epilogue;

  const size_t outer = axes.size() > 2 ? axes.size() - 2 : 0;
  // The two innermost axes belong to the kernel, the outer ones to this loop.
  for (size_t i = 0; i < 2; ++i) {
    const size_t position = axes.size() + i;  // of the axis, counted from 2 in front
    const Axis axis = position >= 2 ? axes[position - 2] : Axis{1, 0, 0, 0};
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
    Kernels::add_launches(writer, problem, x, at);
    size_t d = outer;
    while (d > 0 && ++index[d - 1] == axes[d - 1].extent) index[--d] = 0;
    if (d == 0) return;
  }
}

}  // namespace

// (a, b [, scale (N,)] [, bias (N,)] [, residual like c] [, operand of act_grad like c];
// transpose_a, transpose_b, has_scale, has_bias, residual, activation, act_grad)
// -> c = act_grad(act(a b * scale + bias + residual))
void lower_matmul(const NodeView& node, LaunchWriter& writer) {
  lower_product<Float32Kernels>(node, writer, kFloat32Numbers);
}

// The same of float32 or bfloat16 matrices, rounded to bfloat16 before, summed in float32.
void lower_matmul_bf16(const NodeView& node, LaunchWriter& writer) {
  lower_product<Bfloat16Kernels>(node, writer, kBfloat16Numbers);
}

// (a, b, p, ..., scalars...; transpose_a, transpose_b, update and its attributes) -> (p, ...)
// p is updated by the gradient a b, a matrix of its shape.
void lower_matmul_update(const NodeView& node, LaunchWriter& writer) {
  const bool transpose_a = node.flag("transpose_a"), transpose_b = node.flag("transpose_b");
  ValueView a = node.input(0), b = node.input(1);
  const ValueView p = node.output(0);
  require(a.rank() == 2 && b.rank() == 2 && p.rank() == 2, "matmul_update: matrices are needed");
  check_dtypes(node, kFloat32Numbers);
  const int64_t M = p.dim(0), N = p.dim(1), K = a.dim(transpose_a ? 0 : 1);
  require(a.dim(transpose_a ? 1 : 0) == M && b.dim(transpose_b ? 1 : 0) == K &&
              b.dim(transpose_b ? 0 : 1) == N,
          "matmul_update: the shapes of the operands do not fit");
  if (p.size() == 0) return;
  MatmulProblem problem = problem_of(kFloat32Numbers, writer, false);
  if (is_turned_column(M, N, transpose_a)) {
    std::swap(a, b);
    describe(problem.args, 1, M, K, false, false);
  } else {
    describe(problem.args, M, N, K, transpose_a, transpose_b);
  }
  problem.args.batch[0] = problem.args.batch[1] = 1;
  problem.tuning.few_rows = 0;  // no taller tile applies the one before it
  problem.updates = true;
  const UpdateOperands update{node, 2, 2 + node.num_outputs()};
  const MatmulPlan plan = plan_matmul(problem);
  if (can_update(plan.matmul)) {
    const Operands x{.a = a, .b = b, .c = p, .update = &update};
    Float32Kernels::add_launches(writer, problem, plan, x, {});
    return;
  }
  const Ref gradient = writer.workspace(p.bytes());
  if (transpose_a && !transpose_b && is_turned_sum(M, N, K)) {  // as without an update
    describe(problem.args, N, M, K, true, false);
    const Ref turned = writer.workspace(p.bytes());
    Float32Kernels::add_launches(writer, problem, {.a = b, .b = a, .c = turned}, {});
    transpose_into(writer, gradient, turned, std::array{N, M}, std::array<int64_t, 2>{1, 0},
                   dtype_bytes(p.dtype));
  } else {
    Float32Kernels::add_launches(writer, problem, plan, {.a = a, .b = b, .c = gradient}, {});
  }
  add_update(node.text("update"), update, {gradient}, p.size(), writer);
}

}  // namespace handmill
