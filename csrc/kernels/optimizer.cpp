// Updates of one parameter by its gradient: one pass over all that the optimizer keeps. The
// formulas are those of Keras 3; every x_out may be x. Scalars that change from step to step (the
// learning rate, alpha = lr * sqrt(1 - beta_2^t) / (1 - beta_1^t), decay = lr * weight_decay) are
// in memory.
#include "kernels/args.h"
#include "kernels/lanes.h"

namespace handmill::HM_ISA {

// p = p - lr g
void sgd_update(const SgdArgs& a, Range blocks, void*) {
  const Vec lr = Vec::broadcast(*a.lr);
  const Range items = items_of(blocks, a.per_block, a.size);
  for_each_vector(items.begin, items.end, [&](int64_t i, auto lanes) {
    lanes.store(fnma(lr, lanes.load(a.g + i), lanes.load(a.p + i)), a.p_out + i);
  });
}

// m = momentum m - lr g;  p = p + m, with Nesterov's look-ahead p = p + momentum m - lr g
void momentum_update(const MomentumArgs& a, Range blocks, void*) {
  const Vec lr = Vec::broadcast(*a.lr), momentum = Vec::broadcast(a.momentum);
  const Range items = items_of(blocks, a.per_block, a.size);
  for_each_vector(items.begin, items.end, [&](int64_t i, auto lanes) {
    const Vec step = lr * lanes.load(a.g + i);
    const Vec m = momentum * lanes.load(a.m + i) - step;
    const Vec change = a.nesterov ? momentum * m - step : m;
    lanes.store(m, a.m_out + i);
    lanes.store(lanes.load(a.p + i) + change, a.p_out + i);
  });
}

namespace {

// m = m + (g - m) (1 - beta_1);  v = v + (g^2 - v) (1 - beta_2);  p = p - m alpha / (sqrt(v) +
// epsilon)
template <bool kDecay>
void adam(const AdamArgs& a, Range items) {
  const Vec alpha = Vec::broadcast(*a.alpha), epsilon = Vec::broadcast(a.epsilon);
  const Vec first = Vec::broadcast(a.one_minus_beta_1), second = Vec::broadcast(a.one_minus_beta_2);
  const Vec decay = Vec::broadcast(kDecay ? *a.decay : 0.0f);
  for_each_vector(items.begin, items.end, [&](int64_t i, auto lanes) {
    const Vec g = lanes.load(a.g + i);
    const Vec m_old = lanes.load(a.m + i), v_old = lanes.load(a.v + i);
    const Vec m = fma(g - m_old, first, m_old);
    const Vec v = fma(g * g - v_old, second, v_old);
    Vec p = lanes.load(a.p + i);
    if constexpr (kDecay) p = fnma(p, decay, p);
    lanes.store(m, a.m_out + i);
    lanes.store(v, a.v_out + i);
    lanes.store(p - m * alpha / (sqrt(v) + epsilon), a.p_out + i);
  });
}

}  // namespace

// Adam; with decay AdamW, which first takes p = p - p decay.
void adam_update(const AdamArgs& a, Range blocks, void*) {
  const Range items = items_of(blocks, a.per_block, a.size);
  if (a.decay != nullptr) {
    adam<true>(a, items);
  } else {
    adam<false>(a, items);
  }
}

// v = rho v + (1 - rho) g^2;  p = p - lr g / sqrt(v + epsilon)
void rmsprop_update(const RmspropArgs& a, Range blocks, void*) {
  const Vec lr = Vec::broadcast(*a.lr), epsilon = Vec::broadcast(a.epsilon);
  const Vec rho = Vec::broadcast(a.rho), rest = Vec::broadcast(a.one_minus_rho);
  const Range items = items_of(blocks, a.per_block, a.size);
  for_each_vector(items.begin, items.end, [&](int64_t i, auto lanes) {
    const Vec g = lanes.load(a.g + i);
    const Vec v = fma(rho, lanes.load(a.v + i), rest * (g * g));
    lanes.store(v, a.v_out + i);
    lanes.store(lanes.load(a.p + i) - lr * g / sqrt(v + epsilon), a.p_out + i);
  });
}

// sum = sum + g^2;  p = p - lr g / sqrt(sum + epsilon)
void adagrad_update(const AdagradArgs& a, Range blocks, void*) {
  const Vec lr = Vec::broadcast(*a.lr), epsilon = Vec::broadcast(a.epsilon);
  const Range items = items_of(blocks, a.per_block, a.size);
  for_each_vector(items.begin, items.end, [&](int64_t i, auto lanes) {
    const Vec g = lanes.load(a.g + i);
    const Vec sum = fma(g, g, lanes.load(a.sum + i));
    lanes.store(sum, a.sum_out + i);
    lanes.store(lanes.load(a.p + i) - lr * g / sqrt(sum + epsilon), a.p_out + i);
  });
}

}  // namespace handmill::HM_ISA
