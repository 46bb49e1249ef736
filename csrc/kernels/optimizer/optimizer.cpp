// Updates of one parameter by its gradient: one pass over all that the optimizer keeps.
#include "kernels/optimizer/apply_update.h"
#include "kernels/optimizer/args.h"
#include "kernels/optimizer/updates.h"
#include "kernels/range.h"

namespace handmill::HM_ISA {
namespace {

template <class Rule, class Args>
void update(const Args& a, Range blocks) {
  const Rule rule{a};
  const Range items = items_of(blocks, a.per_block, a.size);
  if (a.scale != nullptr) {
    const Vec scale = Vec::broadcast(*a.scale);
    update_each(rule, items.begin, items.end,
                [&](auto lanes, int64_t i) { return lanes.load(a.g + i) * scale; });
    return;
  }
  update_each(rule, items.begin, items.end,
              [&](auto lanes, int64_t i) { return lanes.load(a.g + i); });
}

// rule, from `offset` elements on.
template <class Rule>
struct Shifted {
  static constexpr bool kTakesRoots = Rule::kTakesRoots;
  const Rule& rule;
  int64_t offset;

  template <class Lanes, class Root>
  HM_INLINE void operator()(Lanes lanes, Vec g, int64_t i, Root root) const {
    rule(lanes, g, offset + i, root);
  }
};

template <class Rule, class Args>
void apply(const Args& args, const float* gradient, int64_t offset, int64_t n) {
  const Rule rule{args};
  update_each(Shifted<Rule>{rule, offset}, 0, n,
              [&](auto lanes, int64_t i) { return lanes.load(gradient + i); });
}

}  // namespace

void apply_update(const UpdateArgs& update, const float* gradient, int64_t offset, int64_t n) {
  switch (update.rule) {
    case UpdateRule::kNone:
      return;
    case UpdateRule::kSgd:
      return apply<SgdUpdate>(update.sgd, gradient, offset, n);
    case UpdateRule::kMomentum:
      return apply<MomentumUpdate>(update.momentum, gradient, offset, n);
    case UpdateRule::kAdam:
      return apply<AdamUpdate>(update.adam, gradient, offset, n);
    case UpdateRule::kRmsprop:
      return apply<RmspropUpdate>(update.rmsprop, gradient, offset, n);
    case UpdateRule::kAdagrad:
      return apply<AdagradUpdate>(update.adagrad, gradient, offset, n);
  }
}

void sgd_update(const SgdArgs& a, Range blocks, void*) { update<SgdUpdate>(a, blocks); }

void momentum_update(const MomentumArgs& a, Range blocks, void*) {
  update<MomentumUpdate>(a, blocks);
}

void adam_update(const AdamArgs& a, Range blocks, void*) { update<AdamUpdate>(a, blocks); }

void rmsprop_update(const RmspropArgs& a, Range blocks, void*) { update<RmspropUpdate>(a, blocks); }

void adagrad_update(const AdagradArgs& a, Range blocks, void*) { update<AdagradUpdate>(a, blocks); }

}  // namespace handmill::HM_ISA
