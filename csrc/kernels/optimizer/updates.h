// The optimizers' updates, a vector at a time: rule(lanes, g, i, root) updates the elements from i
// on by their gradient g, to which an L2 penalty may add. root(x) is the square root, by the
// divider or by the multipliers, with the same bits. The formulas are those of Keras 3. Scalars
// that change from step to step (the learning rate, alpha = lr * sqrt(1 - beta_2^t) / (1 -
// beta_1^t), decay = lr * weight_decay) are in memory.
#pragma once

#include "kernels/lanes.h"
#include "kernels/optimizer/args.h"
#include "simd/math.h"

namespace handmill::HM_ISA {

struct ByDivider {
  HM_INLINE Vec operator()(Vec x) const { return sqrt(x); }
};
struct ByProducts {
  HM_INLINE Vec operator()(Vec x) const { return sqrt_by_products(x); }
};

// rule(lanes, g(lanes, i), i, root) for every vector; the roots of two neighbours at the same time,
// one each way.
template <class Rule, class Gradient>
HM_INLINE void update_each(const Rule& rule, int64_t begin, int64_t end, Gradient g) {
  constexpr int64_t W = Vec::width;
  int64_t i = begin;
  if constexpr (Rule::kTakesRoots && kRsqrtBits > 0) {
    for (; i + 2 * W <= end; i += 2 * W) {
      rule(AllLanes{}, g(AllLanes{}, i), i, ByDivider{});
      rule(AllLanes{}, g(AllLanes{}, i + W), i + W, ByProducts{});
    }
  }
  for_each_vector(i, end, [&](int64_t n, auto lanes) { rule(lanes, g(lanes, n), n, ByDivider{}); });
}

// g + penalty p: the gradient with that of an L2 penalty.
template <class Args>
struct Penalized {
  const Args& a;
  bool given = a.penalty != nullptr;
  Vec penalty = Vec::broadcast(given ? *a.penalty : 0.0f);

  template <class Lanes>
  HM_INLINE Vec operator()(Lanes lanes, Vec g, int64_t i) const {
    return given ? fma(penalty, lanes.load(a.p + i), g) : g;
  }
};

// p = p - lr g
struct SgdUpdate {
  static constexpr bool kTakesRoots = false;
  const SgdArgs& a;
  Penalized<SgdArgs> penalized{a};
  Vec lr = Vec::broadcast(*a.lr);

  template <class Lanes, class Root>
  HM_INLINE void operator()(Lanes lanes, Vec g, int64_t i, Root) const {
    g = penalized(lanes, g, i);
    lanes.store(fnma(lr, g, lanes.load(a.p + i)), a.p_out + i);
  }
};

// m = momentum m - lr g;  p = p + m, with Nesterov's look-ahead p = p + momentum m - lr g
struct MomentumUpdate {
  static constexpr bool kTakesRoots = false;
  const MomentumArgs& a;
  Penalized<MomentumArgs> penalized{a};
  Vec lr = Vec::broadcast(*a.lr), momentum = Vec::broadcast(a.momentum);

  template <class Lanes, class Root>
  HM_INLINE void operator()(Lanes lanes, Vec g, int64_t i, Root) const {
    g = penalized(lanes, g, i);
    const Vec step = lr * g;
    const Vec m = momentum * lanes.load(a.m + i) - step;
    const Vec change = a.nesterov ? momentum * m - step : m;
    lanes.store(m, a.m_out + i);
    lanes.store(lanes.load(a.p + i) + change, a.p_out + i);
  }
};

// m = m + (g - m) (1 - beta_1);  v = v + (g^2 - v) (1 - beta_2);  p = p - m alpha / (sqrt(v) +
// epsilon). With decay AdamW, which first takes p = p - p decay.
struct AdamUpdate {
  static constexpr bool kTakesRoots = true;
  const AdamArgs& a;
  Penalized<AdamArgs> penalized{a};
  Vec alpha = Vec::broadcast(*a.alpha), epsilon = Vec::broadcast(a.epsilon);
  Vec first = Vec::broadcast(a.one_minus_beta_1), second = Vec::broadcast(a.one_minus_beta_2);
  // Not a template parameter: a branch that always goes one way hides behind the root, and matmul's
  // tiles that update have half as many instances.
  bool decays = a.decay != nullptr;
  Vec decay = Vec::broadcast(decays ? *a.decay : 0.0f);

  HM_INLINE void prefetch(int64_t i) const {
    __builtin_prefetch(a.m + i);
    __builtin_prefetch(a.v + i);
    __builtin_prefetch(a.p + i);
  }

  template <class Lanes, class Root>
  HM_INLINE void operator()(Lanes lanes, Vec g, int64_t i, Root root) const {
    g = penalized(lanes, g, i);
    const Vec m_old = lanes.load(a.m + i), v_old = lanes.load(a.v + i);
    const Vec m = fma(g - m_old, first, m_old);
    const Vec v = fma(g * g - v_old, second, v_old);
    Vec p = lanes.load(a.p + i);
    if (decays) p = fnma(p, decay, p);
    lanes.store(m, a.m_out + i);
    lanes.store(v, a.v_out + i);
    lanes.store(p - m * alpha / (root(v) + epsilon), a.p_out + i);
  }
};

// v = rho v + (1 - rho) g^2;  p = p - lr g / sqrt(v + epsilon)
struct RmspropUpdate {
  static constexpr bool kTakesRoots = true;
  const RmspropArgs& a;
  Penalized<RmspropArgs> penalized{a};
  Vec lr = Vec::broadcast(*a.lr), epsilon = Vec::broadcast(a.epsilon);
  Vec rho = Vec::broadcast(a.rho), rest = Vec::broadcast(a.one_minus_rho);

  template <class Lanes, class Root>
  HM_INLINE void operator()(Lanes lanes, Vec g, int64_t i, Root root) const {
    g = penalized(lanes, g, i);
    const Vec v = fma(rho, lanes.load(a.v + i), rest * (g * g));
    lanes.store(v, a.v_out + i);
    lanes.store(lanes.load(a.p + i) - lr * g / root(v + epsilon), a.p_out + i);
  }
};

// sum = sum + g^2;  p = p - lr g / sqrt(sum + epsilon)
struct AdagradUpdate {
  static constexpr bool kTakesRoots = true;
  const AdagradArgs& a;
  Penalized<AdagradArgs> penalized{a};
  Vec lr = Vec::broadcast(*a.lr), epsilon = Vec::broadcast(a.epsilon);

  template <class Lanes, class Root>
  HM_INLINE void operator()(Lanes lanes, Vec g, int64_t i, Root root) const {
    g = penalized(lanes, g, i);
    const Vec sum = fma(g, g, lanes.load(a.sum + i));
    lanes.store(sum, a.sum_out + i);
    lanes.store(lanes.load(a.p + i) - lr * g / root(sum + epsilon), a.p_out + i);
  }
};

}  // namespace handmill::HM_ISA
