// Arguments of the optimizers' updates (optimizer.cpp), which matmul can also apply to a gradient
// as it comes out of the registers (matmul/update.cpp). p: parameter, g: gradient; x_out may be x.
// lr, alpha, decay: one float each; scale: one float that the gradient is multiplied by first, or
// null; penalty: one float whose product with p is then added to the gradient, or null. Plain
// aggregates: sizes count elements.
#pragma once

#include <cstdint>

namespace handmill {

struct SgdArgs {
  const float *p, *g, *scale, *penalty, *lr;
  float* p_out;
  int64_t size, per_block;
};

struct MomentumArgs {
  const float *p, *m, *g, *scale, *penalty, *lr;
  float *p_out, *m_out;
  int64_t size, per_block;
  float momentum;
  bool nesterov;
};

struct AdamArgs {
  const float *p, *m, *v, *g, *scale, *penalty, *alpha;
  const float* decay;  // null: no weight decay
  float *p_out, *m_out, *v_out;
  int64_t size, per_block;
  float one_minus_beta_1, one_minus_beta_2, epsilon;
};

struct RmspropArgs {
  const float *p, *v, *g, *scale, *penalty, *lr;
  float *p_out, *v_out;
  int64_t size, per_block;
  float rho, one_minus_rho, epsilon;
};

struct AdagradArgs {
  const float *p, *sum, *g, *scale, *penalty, *lr;
  float *p_out, *sum_out;
  int64_t size, per_block;
  float epsilon;
};

enum class UpdateRule : int32_t { kNone, kSgd, kMomentum, kAdam, kRmsprop, kAdagrad };

/// An update of a parameter whose gradient is at hand; g, scale, size and per_block are not used.
struct UpdateArgs {
  UpdateRule rule;
  union {
    SgdArgs sgd;
    MomentumArgs momentum;
    AdamArgs adam;
    RmspropArgs rmsprop;
    AdagradArgs adagrad;
  };
};

}  // namespace handmill
