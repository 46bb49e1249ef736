// Whether threads pay at the moment. Where other processes keep the cores busy, a thread that the
// system has put aside holds up all others at every barrier, for milliseconds: with two threads on
// two busy cores a step of 130 us took 0.5 to 20 ms (measured on Zen 4 under a load of 9).
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <ctime>

#include "core/parallel.h"

namespace handmill {

/// The processor time of all threads of this process, in nanoseconds.
inline int64_t process_time() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

/// One for each kind of work. Thread-safe; what threads tell at the same time may be lost.
/// A run is disturbed that took longer than one thread alone would have taken (no more than the
/// best time of n threads, n times). Two of those close together make the next runs go alone for a
/// while; one alone is a moment's loss, and going alone after it costs more (a virtual machine
/// stalls for some milliseconds several times a second: with one as the limit, a training step of
/// 2.75 ms took 3.3 ms in the mean, with two 2.78 ms). Bits do not depend on it, and a number of
/// threads that was set by set_num_threads is always obeyed.
///
/// Threads of this process that spin are no busy neighbours: after a product in NumPy those of
/// OpenBLAS do so for 30 to 100 ms. They take a core for a time slice of 4 ms now and then, which
/// costs two threads as much in the mean as going alone would (512^3 on two cores: 0.95 ms and
/// every fourth call 5, against 1.75 alone), and soon sleep. So where this process itself had the
/// time that a run lost, runs go alone only when many in a row are disturbed, and try again soon.
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

  /// Tells that a run with so many threads took from `begin` to `end`. Returns whether the next
  /// ones should go alone. `used_so_far`: process_time, but in tests.
  template <class Used = int64_t (*)()>
  bool record(int threads, Clock::time_point begin, Clock::time_point end,
              Used used_so_far = process_time) {
    if (threads <= 1) return false;
    const int64_t took = std::max<int64_t>(1, (end - begin).count());
    const int64_t best = best_.load(std::memory_order_relaxed);
    if (threads_.exchange(threads, std::memory_order_relaxed) != threads || took < best) {
      best_.store(took, std::memory_order_relaxed);
      return false;
    }
    const int recent = recent_.load(std::memory_order_relaxed);
    const bool disturbed = took / 5 * 4 >= best * threads && !threads_are_fixed();
    if (!disturbed && recent == 0) return false;
    const int64_t lost = took - best, before = used_at_.load(std::memory_order_relaxed);
    const int64_t time = used_so_far(), used = time - used_.load(std::memory_order_relaxed);
    used_.store(time, std::memory_order_relaxed);
    used_at_.store(end.time_since_epoch().count(), std::memory_order_relaxed);
    if (!disturbed) {
      recent_.store(recent - 1, std::memory_order_relaxed);
      in_a_row_.store(0, std::memory_order_relaxed);
      if (recent == 1) own_rest_.store(kOwnRest, std::memory_order_relaxed);
      return false;
    }
    recent_.store(kMemory, std::memory_order_relaxed);
    if (recent == 0) return false;
    if (begin.time_since_epoch().count() - before < lost / 8) {  // else as the last time
      is_own_.store(used - best * threads > lost / 4, std::memory_order_relaxed);
    }
    // Going alone this long keeps the price of the attempts near a tenth.
    Clock::duration rest = std::min<Clock::duration>(24 * Clock::duration(took), kLongestRest);
    if (is_own_.load(std::memory_order_relaxed)) {
      if (in_a_row_.fetch_add(1, std::memory_order_relaxed) + 1 < kInARow) return false;
      in_a_row_.store(0, std::memory_order_relaxed);
      const Clock::duration own = own_rest_.load(std::memory_order_relaxed);
      rest = std::min(rest, own);
      own_rest_.store(2 * rest, std::memory_order_relaxed);
    }
    alone_until_.store((end + rest).time_since_epoch().count(), std::memory_order_relaxed);
    return true;
  }

 private:
  static constexpr std::chrono::milliseconds kLongestRest{500};
  static constexpr Clock::duration kOwnRest =
      std::chrono::milliseconds(3);  // doubled as long as it does not help
  static constexpr int kInARow = 8;
  static constexpr int kMemory = 4;  // undisturbed runs after which a disturbed one is forgotten

  std::atomic<int> threads_{0};
  std::atomic<int> recent_{0};       // above 0 for a while after a disturbed run
  std::atomic<int64_t> best_{0};     // the least time with threads_ threads
  std::atomic<int64_t> used_{0};     // process_time() at the end of the run before,
  std::atomic<int64_t> used_at_{0};  // and when that was; kept while recent_ > 0
  std::atomic<bool> is_own_{false};  // what the process did while a run was disturbed
  std::atomic<int> in_a_row_{0};     // runs that it disturbed itself
  std::atomic<Clock::duration> own_rest_{kOwnRest};
  std::atomic<int64_t> alone_until_{0};
};

}  // namespace handmill
