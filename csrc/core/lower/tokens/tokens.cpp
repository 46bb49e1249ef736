// Tokens chosen from logits.
#include "core/lower/builder.h"

namespace handmill {

// (logits (B, V), u (B, 2), settings (3,): temperature, k, p) -> int32 (B,)
void lower_choose_token(const NodeView& node, LaunchWriter& writer) {
  const ValueView logits = node.input(0);
  ChooseTokenArgs args{};
  args.B = logits.dim(0);
  args.V = logits.dim(1);
  require(args.V >= 1 && args.V <= INT32_MAX, "choose_token: ", args.V, " tokens");
  writer.read(&args.logits, logits);
  writer.read(&args.u, node.input(1));
  writer.read(&args.settings, node.input(2));
  writer.write(&args.y, node.output(0));
  writer.add<Kernel::choose_token>(args, {.blocks = args.B,
                                          .scratch = 8 * args.V,
                                          .flops = 10.0 * static_cast<double>(logits.size())});
}

}  // namespace handmill
