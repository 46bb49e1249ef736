#include "core/lane.h"

#include <cstring>

#include "core/check.h"
#include "core/parallel.h"
#include "core/random.h"

namespace handmill {
namespace {

constexpr double kSlice = 0.05;  // seconds between two questions whether to stop

}  // namespace

bool Lane::is_alive() const {
  float value = 1;
  if (alive != nullptr) std::memcpy(&value, alive->data(), sizeof value);
  return value != 0;
}

// Whether all steps were made.
bool Lane::run_pass(LanePass& pass, const Stop& stop) {
  for (const auto& [state, bytes] : pass.resets) {
    std::memcpy(state->data(), bytes.data(), bytes.size());
    state->bump();
  }
  pass.feed.position = 0;
  if (pass.shuffles) {
    permutation(seed, orders++, pass.feed.source_rows, pass.feed.order.data());
  }
  for (const LaneSteps& steps : pass.steps) {
    const Plan::Lease lease(*steps.plan, *steps.binding);
    for (int64_t done = 0; done < steps.count;) {
      const FedResult result = steps.plan->run_fed(*lease, pass.feed, steps.count - done, kSlice);
      require(!result.failure, "a guard refused a batch: node ", result.failure.node, ", value ",
              result.failure.value);
      done += result.steps;
      if (done < steps.count && stop()) return false;
    }
  }
  for (const auto& state : results) {
    record_.insert(record_.end(), state->data(), state->data() + state->bytes());
  }
  return true;
}

void Lane::train(const Stop& stop) {
  const AloneHere alone;
  while (epochs_done_ < epochs && !stop()) {
    if (!run_pass(training, stop)) return;
    if (!validation.steps.empty() && !run_pass(validation, stop)) return;
    ++epochs_done_;
    if (!is_alive()) return;
  }
}

void Lane::run(const Stop& stop) noexcept {
  try {
    train(stop);
  } catch (...) {
    error_ = std::current_exception();
  }
}

}  // namespace handmill
