// What a product ends with (MatmulEpilogue), as nodes say it: has_scale, has_bias, residual,
// activation, act_grad.
#pragma once

#include <optional>

#include "core/lower/builder.h"

namespace handmill {

struct EpilogueOperands {
  std::optional<ValueView> scale, bias, residual, grad_of;
};

/// The operands behind the first `count` inputs of a node whose output is the product, as far as
/// its attributes ask for them; fills the names and dtypes of `epilogue`. Throws
/// std::invalid_argument if their number or sizes are others.
EpilogueOperands epilogue_of(const NodeView& node, int count, MatmulEpilogue& epilogue);

/// Declares the pointers of `epilogue`, for the `extent` elements of the product from `offset` on.
void bind_epilogue(LaunchWriter& writer, MatmulEpilogue& epilogue, const EpilogueOperands& operands,
                   int64_t offset, int64_t extent);

}  // namespace handmill
