// One team a process: threads made when a region first needs them, which wait for the next region.
// They spin for a millisecond, so that a region starts in half a microsecond, and then sleep.

#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <system_error>
#include <thread>

#include "core/placement.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#endif
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#endif

namespace handmill {

#if defined(HM_NO_THREADS)

bool has_threads() { return false; }

void Worker::wait() const {}

bool is_awake() { return true; }

int awake_threads(int) { return 1; }

void run_region(int, void (*body)(void*, const Worker&), void* context) {
  body(context, Worker(0, 1));
}

#else

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::microseconds kBarrierSpin{40}, kIdleSpin{1000};

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Sleeps while word == value, until wake_all; may return early.
void sleep_while(std::atomic<int>& word, int value) {
#if defined(__linux__)
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
#else
  word.wait(value);
#endif
}

void wake_all(std::atomic<int>& word) {
#if defined(__linux__)
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
#else
  word.notify_all();
#endif
}

// Whether the word took another value than `value` before the time was over.
bool spin_while(const std::atomic<int>& word, int value, Clock::duration time, bool yields) {
  Clock::time_point end{};
  for (int i = 1;; ++i) {
    if (word.load(std::memory_order_acquire) != value) return true;
    relax();
    if (i % 64 == 0) {
      const Clock::time_point now = Clock::now();
      if (i == 64) end = now + time;
      if (now >= end) return false;
      if (yields && i % 1024 == 0) std::this_thread::yield();
    }
  }
}

// A number that only grows, and threads that wait for it to change.
class Signal {
 public:
  int value() const { return value_.load(std::memory_order_acquire); }
  bool has_sleepers() const { return sleepers_.load(std::memory_order_relaxed) > 0; }

  void set(int value) {
    value_.store(value, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) wake_all(value_);
  }

  // Lets sleepers look, and spin again for a while.
  void nudge() { wake_all(value_); }

  // Returns once the value is not `value`. `before_sleep` is called each time before sleeping.
  template <class Call>
  void wait(int value, Clock::duration spin, bool yields, Call before_sleep) {
    while (!spin_while(value_, value, spin, yields)) {
      before_sleep();
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      if (value_.load(std::memory_order_seq_cst) == value) sleep_while(value_, value);
      sleepers_.fetch_sub(1, std::memory_order_relaxed);
    }
  }

  void forget_sleepers() { sleepers_.store(0); }

 private:
  alignas(64) std::atomic<int> value_{0};
  std::atomic<int> sleepers_{0};
};

// The generation is the sense: a thread that has seen it change may go on, also into the next
// barrier, since `arrived` was set back before.
class Barrier {
 public:
  void wait(int count, bool may_spin) {
    const int generation = generation_.value();
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == count - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      generation_.set(generation + 1);
    } else {
      generation_.wait(generation, may_spin ? kBarrierSpin : Clock::duration(0), false, [] {});
    }
  }

  void reset() {
    arrived_.store(0);
    generation_.forget_sleepers();
  }

 private:
  alignas(64) std::atomic<int> arrived_{0};
  Signal generation_;
};

// The start signal counts regions and carries the number of threads that take part, so that a
// thread which does not looks at nothing else.
constexpr int kThreadBits = 10, kMaxThreads = (1 << kThreadBits) - 1;

// What the one region under way needs. Whoever holds `busy` writes it.
struct Team {
  Barrier barrier;
  Signal start;
  std::atomic<bool> busy{false};
  std::atomic<int64_t> last_alone{0};  // when a region last went alone since threads slept
  int made = 1;                        // threads that exist, the caller among them
  int limit = kMaxThreads;             // what a failure to make one left
  bool may_spin = true;                // no more threads than CPUs
  int caller_cpu = -1;                 // -1: unknown
  void (*body)(void*, const Worker&) = nullptr;
  void* context = nullptr;
};

Team team;

Placement<kMaxThreads + 1> placement;

void serve(int index, int seen) {
  placement.start(index);
  while (true) {
    team.start.wait(seen, kIdleSpin, true, [index] { placement.fall_asleep(index); });
    seen = team.start.value();
    const int count = seen & kMaxThreads;
    if (index >= count) continue;
    if (team.may_spin) placement.avoid(team.caller_cpu);
    const Worker worker(index, count);
    team.body(team.context, worker);
    worker.barrier();
  }
}

// Signals are for the threads that the program knows of.
class BlockedSignals {
 public:
#if defined(__unix__) || defined(__APPLE__)
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
#endif
};

// The number of threads, at most `threads`, for a region whose caller has the team.
int usable_threads(int threads) {
  threads = std::min(threads, team.limit);
  if (threads > team.made) {
    const BlockedSignals blocked;
    placement.remember_allowed();
    try {
      for (; team.made < threads; ++team.made) {
        std::thread(serve, team.made, team.start.value()).detach();
      }
    } catch (const std::exception&) {  // no memory, or too many threads
      threads = team.limit = team.made;
    }
  }
  return threads;
}

#if defined(__unix__) || defined(__APPLE__)
// The threads do not survive a fork; a child makes new ones when it needs them.
void in_child() {
  team.made = 1;
  team.busy.store(false);
  team.barrier.reset();
  team.start.forget_sleepers();
  placement.forget_threads();
}

[[maybe_unused]] const int fork_handlers = pthread_atfork(nullptr, nullptr, in_child);
#endif

int cpu_count() {
  static const int count = static_cast<int>(std::thread::hardware_concurrency());
  return count;
}

}  // namespace

bool has_threads() { return true; }

void Worker::wait() const { team.barrier.wait(count_, team.may_spin); }

bool is_awake() { return !team.start.has_sleepers(); }

int awake_threads(int threads) {
  if (threads <= 1 || is_awake()) return threads;
  const int64_t now = Clock::now().time_since_epoch().count();
  const int64_t before = team.last_alone.exchange(now, std::memory_order_relaxed);
  if (now - before < Clock::duration(kIdleSpin).count()) {
    placement.part_from(current_cpu(), threads);
    team.start.nudge();
  }
  return 1;
}

void run_region(int threads, void (*body)(void*, const Worker&), void* context) {
  if (threads > 1 && !team.busy.exchange(true, std::memory_order_acquire)) {
    threads = usable_threads(threads);
    if (threads > 1) {
      team.may_spin = threads <= cpu_count();
      team.caller_cpu = current_cpu();
      if (team.start.has_sleepers()) placement.part_from(team.caller_cpu, threads);
      team.body = body;
      team.context = context;
      const auto regions = static_cast<uint32_t>(team.start.value()) >> kThreadBits;
      team.start.set(
          static_cast<int>((regions + 1) << kThreadBits | static_cast<uint32_t>(threads)));
      const Worker worker(0, threads);
      body(context, worker);
      worker.barrier();
      team.busy.store(false, std::memory_order_release);
      return;
    }
    team.busy.store(false, std::memory_order_release);
  }
  body(context, Worker(0, 1));
}

#endif

}  // namespace handmill
