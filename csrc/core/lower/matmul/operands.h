// What the lowering rules of matrix products share: names of the epilogue, leading axes.
#pragma once

#include <string_view>
#include <vector>

#include "core/lower/builder.h"
#include "kernels/matmul/args.h"

namespace handmill {

/// The epilogue of that name; throws std::invalid_argument if there is none.
Activation activation_named(std::string_view name);
ActivationGrad activation_grad_named(std::string_view name);

/// An axis of the stacks, with the strides of the operands, 0 where they repeat.
struct MatmulAxis {
  int64_t extent, a, b, c;
};

struct MatmulOperand {
  const ValueView& value;
  int64_t matrix;  // elements of one matrix

  int64_t extent(int from_end) const {  // of a leading axis; the last of them is 1
    const int axis = value.rank() - 2 - from_end;
    return axis < 0 ? 1 : value.dim(axis);
  }
};

/// The leading axes, outermost first, those of one element left out and neighbours merged where all
/// operands step from one to the other without a gap.
std::vector<MatmulAxis> batch_axes(const MatmulOperand& a, const MatmulOperand& b,
                                   const MatmulOperand& c);

}  // namespace handmill
