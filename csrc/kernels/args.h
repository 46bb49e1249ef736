// What the kernels receive: plain aggregates without functions, shared by every level. One file a
// family.
#pragma once

#include "kernels/cast/args.h"
#include "kernels/ceilings/args.h"
#include "kernels/convolution/args.h"
#include "kernels/cumulate/args.h"
#include "kernels/elementwise/args.h"
#include "kernels/gather/args.h"
#include "kernels/images/args.h"
#include "kernels/matmul/args.h"
#include "kernels/metrics/args.h"
#include "kernels/movement/args.h"
#include "kernels/optimizer/args.h"
#include "kernels/pooling/args.h"
#include "kernels/random/args.h"
#include "kernels/reduce/args.h"
#include "kernels/rows/args.h"
#include "kernels/softmax/args.h"
