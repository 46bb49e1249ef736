// Arguments of softmax and its losses: M rows of N classes. Plain aggregates: sizes and strides
// count elements. A block is a run of `..._per_block` items, the last one shorter.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace handmill {

struct SoftmaxArgs {
  const float* x;
  float* y;
  int64_t M, N, rows_per_block;
};

struct SoftmaxGradArgs {
  const float *dy, *y;
  float* dx;
  int64_t M, N, rows_per_block;
};

struct SparseCrossEntropyArgs {
  const float* logits;
  const void* labels;
  float *loss, *probabilities;
  int64_t M, N, rows_per_block;
  Dtype label_type;
};

struct SparseCrossEntropyGradArgs {
  const float *dloss, *probabilities;
  const void* labels;
  float* dlogits;
  int64_t M, N, rows_per_block;
  Dtype label_type;
};

struct CrossEntropyArgs {
  const float *logits, *targets;
  float *loss, *probabilities;
  int64_t M, N, rows_per_block;
};

struct CrossEntropyGradArgs {
  const float *dloss, *probabilities, *targets;
  float* dlogits;
  int64_t M, N, rows_per_block;
};

struct CheckLabelsArgs {
  const void* labels;
  GuardResult* found;
  int64_t size, num_classes;
  Dtype label_type;
};

}  // namespace handmill
