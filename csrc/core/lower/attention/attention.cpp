// Attention and its gradients. Operands beside queries, keys and values are there where attributes
// say so: mask, lengths, start, rows, and the seed state if rate > 0.
#include <algorithm>
#include <cmath>

#include "core/lower/blocks.h"
#include "core/lower/builder.h"

namespace handmill {
namespace {

void describe_scores(const NodeView& node, LaunchWriter& writer, int next, AttentionScores& a) {
  const ValueView q = node.input(0), k = node.input(1), v = node.input(2);
  a.B = q.dim(0);
  a.T = q.dim(1);
  a.N = q.dim(2);
  a.H = q.dim(3);
  a.S = k.dim(1);
  a.K = k.dim(2);
  a.V = v.dim(3);
  a.scale = static_cast<float>(node.f64("scale"));
  a.causal = node.flag("causal");
  a.window = node.i64("window");
  writer.read(&a.q, q);
  writer.read(&a.k, k);
  writer.read(&a.v, v);
  if (node.flag("mask")) {
    const ValueView mask = node.input(next++);
    int64_t stride = 1;
    for (int axis = 3; axis >= 0; --axis) {
      a.mask_stride[axis] = mask.dim(axis) == 1 ? 0 : stride;
      stride *= mask.dim(axis);
    }
    writer.read(&a.mask, mask);
  }
  if (node.flag("lengths")) writer.read(&a.lengths, node.input(next++));
  if (node.flag("start")) writer.read(&a.start, node.input(next++));
  if (node.flag("rows")) writer.read(&a.rows, node.input(next++));
  const double rate = node.f64("rate");
  if (rate > 0.0) {
    a.threshold = static_cast<uint32_t>(std::floor(rate * 4294967296.0));
    a.kept = static_cast<float>(1.0 / (1.0 - rate));
    writer.read(&a.seed_state, node.input(next));
  }
}

double products(const AttentionScores& a) {
  return 2.0 * static_cast<double>(a.B * a.T * a.S) * static_cast<double>(a.N) *
         (a.causal ? 0.5 : 1.0);
}

}  // namespace

// (q, k, v, ...; causal, window, scale, rate, mask, lengths, start, rows) -> y, stats
void lower_attention(const NodeView& node, LaunchWriter& writer) {
  AttentionArgs args{};
  describe_scores(node, writer, 3, args.of);
  writer.write(&args.y, node.output(0));
  writer.write(&args.stats, node.output(1));
  const AttentionScores& a = args.of;
  const int64_t rows = a.T * (a.N / std::max<int64_t>(a.K, 1));
  writer.add<Kernel::attention>(args, {.blocks = a.B * a.K * ceil_div(rows, AttentionBlocks::kRows),
                                       .scratch = AttentionBlocks::forward_scratch(a.H, a.V),
                                       .flops = products(a) * static_cast<double>(a.H + a.V)});
}

// (q, k, v, y, stats, dy, ...; as above, rows false) -> dq, dk, dv
void lower_attention_grad(const NodeView& node, LaunchWriter& writer) {
  AttentionGradArgs args{};
  describe_scores(node, writer, 6, args.of);
  writer.read(&args.y, node.input(3));
  writer.read(&args.stats, node.input(4));
  writer.read(&args.dy, node.input(5));
  writer.write(&args.dq, node.output(0));
  writer.write(&args.dk, node.output(1));
  writer.write(&args.dv, node.output(2));
  const AttentionScores& a = args.of;
  writer.add<Kernel::attention_grad>(
      args, {.blocks = a.B * a.K,
             .scratch = AttentionBlocks::backward_scratch(a.H, a.V),
             .flops = products(a) * static_cast<double>(3 * a.H + 2 * a.V)});
}

}  // namespace handmill
