// Updates of a parameter by its gradient, as launches of their own or as a part of the matmul that
// computes the gradient.
#pragma once

#include <string_view>

#include "core/lower/builder.h"

namespace handmill {

/// Where a node has the operands of an update: the arrays that are written (the parameter, then
/// what the optimizer keeps of it), one behind the other, and the scalars likewise.
struct UpdateOperands {
  const NodeView& node;
  int first_array, first_scalar;
};

/// A gradient in memory, and what it is multiplied by first.
struct Gradient {
  Ref values;
  const Ref* scale = nullptr;
};

/// Floating-point operations of an update, an element. Throws std::invalid_argument for a name that
/// no update has.
double update_flops(std::string_view name, const UpdateOperands& operands);

/// Declares the pointers of an update that is a part of another launch, whose arguments hold
/// `update`.
void bind_update(UpdateArgs& update, std::string_view name, const UpdateOperands& operands,
                 LaunchWriter& writer);

/// Adds a launch for an update of `size` elements.
void add_update(std::string_view name, const UpdateOperands& operands, const Gradient& gradient,
                int64_t size, LaunchWriter& writer);

}  // namespace handmill
