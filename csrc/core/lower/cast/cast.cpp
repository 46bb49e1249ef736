// Changes of dtype, and counters.
#include "core/lower/blocks.h"
#include "core/lower/builder.h"

namespace handmill {

// x -> y, of the output's dtype
void lower_cast(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0), y = node.output(0);
  CastArgs args{};
  args.size = x.size();
  args.per_block = kBlockElements;
  args.from = x.dtype;
  args.to = y.dtype;
  writer.read(&args.x, x);
  writer.write(&args.y, y);
  writer.add<Kernel::cast>(args, {.blocks = ceil_div(args.size, args.per_block)});
}

// x (int64) -> x + 1
void lower_increment(const NodeView& node, LaunchWriter& writer) {
  IncrementArgs args{};
  args.size = node.input(0).size();
  require(node.input(0).dtype == Dtype::int64, "increment: int64 only");
  writer.read(&args.x, node.input(0));
  writer.write(&args.y, node.output(0));
  writer.add<Kernel::increment>(args, {.blocks = 1});
}

}  // namespace handmill
