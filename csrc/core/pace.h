// Whether threads pay at the moment. Where other processes keep the cores busy, a thread that the
// system has put aside holds up all others at every barrier, for milliseconds: with two threads on
// two busy cores a step of 130 us took 0.5 to 20 ms (measured on Zen 4 under a load of 9).
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "core/parallel.h"

namespace handmill {

/// One for each kind of work. Thread-safe; what threads tell at the same time may be lost.
/// Two runs in a row that took longer than one thread alone would have taken (no more than the best
/// time of n threads, n times) make the next runs go alone for a while; one by itself may have
/// found its data in no cache. Bits do not depend on it, and a number of threads that was set by
/// set_num_threads is always obeyed.
class Pace {
 public:
  using Clock = std::chrono::steady_clock;

  /// The threads to use now: as given, or 1.
  int choose(int threads, Clock::time_point now) const {
    return threads > 1 && now < alone_until() && !threads_are_fixed() ? 1 : threads;
  }

  /// Until when runs go alone.
  Clock::time_point alone_until() const {
    return Clock::time_point(Clock::duration(alone_until_.load(std::memory_order_relaxed)));
  }

  /// Tells that a run with so many threads took from `begin` to `end`. Returns whether it was
  /// disturbed.
  bool record(int threads, Clock::time_point begin, Clock::time_point end) {
    if (threads <= 1) return false;
    const int64_t took = std::max<int64_t>(1, (end - begin).count());
    const int64_t best = best_.load(std::memory_order_relaxed);
    if (threads_.exchange(threads, std::memory_order_relaxed) != threads || took < best) {
      best_.store(took, std::memory_order_relaxed);
      slow_.store(0, std::memory_order_relaxed);
      return false;
    }
    const bool is_slow = took / 5 * 4 >= best * threads && !threads_are_fixed();
    const int64_t before = slow_.exchange(is_slow ? took : 0, std::memory_order_relaxed);
    if (!is_slow || before == 0) return false;
    // Going alone this long keeps the price of the attempt below a tenth.
    const Clock::duration rest =
        std::min<Clock::duration>(16 * Clock::duration(took + before), kLongestRest);
    alone_until_.store((end + rest).time_since_epoch().count(), std::memory_order_relaxed);
    return true;
  }

 private:
  static constexpr std::chrono::milliseconds kLongestRest{250};

  std::atomic<int> threads_{0};
  std::atomic<int64_t> best_{0};  // the least time with threads_ threads
  std::atomic<int64_t> slow_{0};  // the time of the last run, if it was too long
  std::atomic<int64_t> alone_until_{0};
};

}  // namespace handmill
