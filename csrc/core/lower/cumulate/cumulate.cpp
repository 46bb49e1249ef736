// Running sums.
#include "core/lower/blocks.h"
#include "core/lower/builder.h"

namespace handmill {

// (x; axis, reverse) -> y
void lower_cumsum(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0);
  const int axis = static_cast<int>(node.i64("axis"));
  require(0 <= axis && axis < x.rank(), "cumsum: axis ", axis, " does not exist");
  CumsumArgs args{};
  args.M = x.product(0, axis);
  args.N = x.dim(axis);
  args.K = x.product(axis + 1, x.rank());
  args.per_block = items_per_block(args.N * args.K);
  args.dtype = x.dtype;
  args.reverse = node.flag("reverse");
  writer.read(&args.x, x);
  writer.write(&args.y, node.output(0));
  writer.add<Kernel::cumsum>(args, {.blocks = x.size() == 0 ? 0 : ceil_div(args.M, args.per_block),
                                    .flops = static_cast<double>(x.size())});
}

}  // namespace handmill
