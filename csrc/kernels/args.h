// What the kernels receive: plain aggregates without functions, shared by every level.
#pragma once

#include "kernels/args_ceilings.h"
#include "kernels/args_data.h"
#include "kernels/args_elementwise.h"
#include "kernels/args_matmul.h"
#include "kernels/args_matmul_bf16.h"
#include "kernels/args_optimizer.h"
#include "kernels/args_warp.h"
#include "kernels/types.h"
