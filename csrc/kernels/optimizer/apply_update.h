// An optimizer's update as a part of another kernel.
#pragma once

#include "kernels/optimizer/args.h"
#include "simd/simd.h"

namespace handmill::HM_ISA {

// Updates n elements of the parameter, from `offset` on, by their gradient.
void apply_update(const UpdateArgs& update, const float* gradient, int64_t offset, int64_t n);

}  // namespace handmill::HM_ISA
