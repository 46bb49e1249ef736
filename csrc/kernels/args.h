// What the kernels receive: plain aggregates without functions, shared by every level.
#pragma once

#include "kernels/types.h"

#if __has_include("kernels/args_elementwise.h")
#include "kernels/args_elementwise.h"
#endif
#if __has_include("kernels/args_matmul.h")
#include "kernels/args_matmul.h"
#endif
#if __has_include("kernels/args_warp.h")
#include "kernels/args_warp.h"
#endif
#if __has_include("kernels/args_data.h")
#include "kernels/args_data.h"
#endif
#if __has_include("kernels/args_ceilings.h")
#include "kernels/args_ceilings.h"
#endif
