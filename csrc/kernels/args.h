// What the kernels receive: plain aggregates without functions, shared by every level.
#pragma once

#include "kernels/args_data.h"
#include "kernels/ceilings/args.h"
#include "kernels/cumulate/args.h"
#include "kernels/elementwise/args.h"
#include "kernels/images/args.h"
#include "kernels/matmul/args.h"
#include "kernels/optimizer/args.h"
#include "kernels/types.h"
