// Convolutions of 3x3 taps with fewer products than they have: when, and as which launches. What is
// computed: kernels/convolution/winograd.h.
#pragma once

#include "core/lower/builder.h"
#include "core/lower/matmul/epilogue.h"
#include "kernels/convolution/args.h"

namespace handmill {

/// Whether Winograd's filtering pays for such a convolution (not transposed), or the gradient of
/// its kernel: by sizes that do not depend on the number of images, so that no image's numbers do.
/// The bounds of the records (primitives/winograd.py) take at least what this takes.
bool is_for_winograd(const ConvGeometry& shape);

/// The convolution over `target` whose result is `source`, as one over `source`: for steps of 1.
ConvGeometry turned_geometry(ConvGeometry shape);

/// c = epilogue(convolution of source by w). `transposed`: w is read backwards, as the gradient by
/// the input does, and shape is turned.
void lower_winograd(LaunchWriter& writer, const ConvGeometry& shape, const ValueView& source,
                    const ValueView& w, const ValueView& c, bool transposed,
                    const MatmulEpilogue& epilogue, const EpilogueOperands& operands);

/// dw = the gradient of a convolution of x by its kernel.
void lower_winograd_grad(LaunchWriter& writer, const ConvGeometry& shape, const ValueView& x,
                         const ValueView& dy, const ValueView& dw);

}  // namespace handmill
