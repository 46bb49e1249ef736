// How many threads a region is worth: by the sizes in its plan alone.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/tuning.h"

namespace handmill {

/// Costs are in floating-point operations; some 80 of them take a nanosecond.
class Work {
 public:
  explicit Work(const ThreadTuning& costs) : costs_(costs) {}

  /// No work yet, at the same costs.
  Work empty() const { return Work(costs_); }

  /// Adds a launch, of which each block can be done by another thread.
  void add_launch(double cost, int64_t blocks) {
    (blocks > 1 ? shared_ : alone_) += cost;
    most_blocks_ = std::max(most_blocks_, blocks);
  }

  void add_barriers(double count) { barriers_ += count; }

  double cost() const { return shared_ + alone_; }

  /// What a second thread costs where a region is opened for one call alone, which updates
  /// variables or not, instead of for the steps of a fed run.
  double region(bool updates) const { return updates ? costs_.per_step : costs_.per_call; }

  /// The threads, of `available`, that finish first. `regions`: what those cost that are not shared
  /// with other runs.
  int threads(int available, double regions = 0) const {
    const int64_t useful =
        std::min(most_blocks_, static_cast<int64_t>(shared_ / costs_.per_thread));
    const int64_t threads = std::clamp<int64_t>(useful, 1, available);
    const double saved = shared_ * (1.0 - 1.0 / static_cast<double>(threads));
    return saved > costs_.per_barrier * barriers_ + regions ? static_cast<int>(threads) : 1;
  }

 private:
  ThreadTuning costs_;
  double shared_ = 0, alone_ = 0;
  int64_t most_blocks_ = 1;
  double barriers_ = 0;
};

}  // namespace handmill
