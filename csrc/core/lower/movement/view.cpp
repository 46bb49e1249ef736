// view: another shape for the same memory.

#include "core/lower/builder.h"

namespace handmill {

// (x) -> y: the same elements under another shape
void lower_view(const NodeView& node, LaunchWriter& writer) {
  const ValueView x = node.input(0), y = node.output(0);
  require(x.bytes() == y.bytes(), "view: shapes (", shape_text(x.shape), " and ",
          shape_text(y.shape), ") with different numbers of elements");
  writer.view(y, x);
}

}  // namespace handmill
