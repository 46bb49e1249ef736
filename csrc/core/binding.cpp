#include "core/binding.h"

#include <algorithm>
#include <atomic>

#include "core/check.h"
#include "core/instance.h"

namespace handmill {
namespace {

std::atomic<uint64_t> last_id{0};

}  // namespace

Binding::Binding(std::vector<std::shared_ptr<State>> states)
    : states_(std::move(states)), id_(last_id.fetch_add(1, std::memory_order_relaxed) + 1) {
  std::vector<const State*> sorted;
  for (const auto& state : states_) {
    require(state != nullptr, "a variable has no state");
    sorted.push_back(state.get());
  }
  std::sort(sorted.begin(), sorted.end());
  require(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end(),
          "two variables have the same state");
}

// Nobody runs with a binding that ends, so no lock is needed to read the list.
Binding::~Binding() {
  for (const auto& known : pools_) {
    if (const auto pool = known.lock()) pool->forget(id_);
  }
}

void Binding::check(const Program& program) const {
  require(states_.size() == program.variables.size(), "the program has ", program.variables.size(),
          " variables, got ", states_.size(), " states");
  for (size_t i = 0; i < states_.size(); ++i) {
    const int value = program.variables[i];
    const auto dims = program.value_dims(value);
    const State& state = *states_[i];
    require(std::equal(dims.begin(), dims.end(), state.shape().begin(), state.shape().end()) &&
                program.values[static_cast<size_t>(value)].dtype == state.dtype(),
            "variable ", value, " has a state of another shape or dtype");
  }
}

// Where the lock is taken (or was, when the process forked), the instance keeps the memory until
// another binding uses it.
void Binding::note(const std::shared_ptr<InstancePool>& pool) const {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return;
  std::erase_if(pools_, [](const auto& known) { return known.expired(); });
  const bool is_known = std::any_of(pools_.begin(), pools_.end(), [&](const auto& known) {
    return !known.owner_before(pool) && !pool.owner_before(known);
  });
  if (!is_known) pools_.push_back(pool);
}

}  // namespace handmill
