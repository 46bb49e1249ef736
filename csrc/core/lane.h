// A training that one thread runs by itself, beside others.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "core/binding.h"
#include "core/feed.h"
#include "core/plan.h"

namespace handmill {

/// Steps of one batch size.
struct LaneSteps {
  std::shared_ptr<const Plan> plan;
  std::shared_ptr<const Binding> binding;
  int64_t count;
};

/// Batches of an epoch, one after the other; each of the steps goes on where those before ended.
struct LanePass {
  Feed feed;
  std::vector<LaneSteps> steps;
  bool shuffles = false;  // whether each epoch has an order of its own
  std::vector<std::pair<std::shared_ptr<State>, std::vector<std::byte>>> resets;  // before
};

/// Epochs of training, each with its validation. Nobody else may use the states meanwhile.
class Lane {
 public:
  /// Returns true to end at the next step boundary; asked now and then.
  using Stop = std::function<bool()>;

  LanePass training, validation;  // validation without steps: none
  uint64_t seed = 0, orders = 0;  // of the orders of the rows, and how many were drawn before
  int64_t epochs = 0;
  std::vector<std::shared_ptr<State>> results;  // noted after each pass
  std::shared_ptr<State> alive;                 // float32: 0 as soon as a loss was not finite

  /// Trains. What it throws is kept for rethrow().
  void run(const Stop& stop) noexcept;

  /// Throws what ended the training, if anything did.
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

  int64_t epochs_done() const { return epochs_done_; }
  /// The results of each pass that was made, one after the other.
  const std::vector<std::byte>& record() const { return record_; }

 private:
  bool run_pass(LanePass& pass, const Stop& stop);
  void train(const Stop& stop);
  bool is_alive() const;

  int64_t epochs_done_ = 0;
  std::vector<std::byte> record_;
  std::exception_ptr error_;
};

}  // namespace handmill
