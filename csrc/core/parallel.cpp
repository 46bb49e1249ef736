// One OpenMP team a process. libgomp keeps a pool of threads for each thread that starts regions;
// `owners` bounds how many such pools can come to be. Between regions the threads of a pool wait
// as libgomp does: they spin for some milliseconds (GOMP_SPINCOUNT, OMP_WAIT_POLICY), which makes
// the next region start in half a microsecond, and then sleep.

#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#if !defined(HM_NO_OPENMP)
#include <omp.h>
#include <pthread.h>

#include "core/placement.h"
#endif
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#endif

#if defined(__SANITIZE_THREAD__)
extern "C" void __tsan_acquire(void*);
extern "C" void __tsan_release(void*);
#endif

namespace handmill {

#if defined(HM_NO_OPENMP)

bool has_openmp() { return false; }

int openmp_cpus() { return 1; }

void Worker::wait(void (*)(void*), void*) const {}

bool is_awake() { return true; }

int awake_threads(int threads) { return threads; }

void run_region(int, void (*body)(void*, const Worker&), void* context) {
  body(context, Worker(0, 1));
}

#else

namespace {

using Clock = std::chrono::steady_clock;

// A thread that sleeps in a barrier may be woken on the CPU of the one that wakes it (a virtual
// machine's idle CPU counts as preempted), where the two take turns for milliseconds. So spin for
// longer than an idle CPU takes to wake: after a pause, `fit` of a small net took 2 to 3 times as
// long with 40 us as with 100 to 1000. On busy CPUs all of these were alike.
constexpr std::chrono::microseconds kSpinTime{200};
constexpr std::chrono::milliseconds kIdleSpin{1};  // libgomp's threads spin at least so long
constexpr int kMaxOwners = 4;
constexpr int kMaxPlaced = 256;

// Between a look at what can be started and libgomp's own threads, a fraction of a millisecond,
// other processes may take threads too: where there is no room for so many more, the team is
// smaller. A look holds for a while, for programs whose regions differ in size.
constexpr int kSpareThreads = 16;
constexpr std::chrono::seconds kLookAgain{1};

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Sleeps while *word == value, until wake_all; may return early.
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

// The generation is the sense: a thread that has seen it change may go on, also into the next
// barrier, since `arrived` was set back before.
class Barrier {
 public:
  void wait(int count, bool may_spin, void (*last)(void*), void* context) {
    const int generation = generation_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == count - 1) {
      if (last != nullptr) last(context);
      arrived_.store(0, std::memory_order_relaxed);
      generation_.store(generation + 1, std::memory_order_seq_cst);
      if (sleepers_.load(std::memory_order_seq_cst) > 0) wake_all(generation_);
      return;
    }
    if (may_spin && spin(generation)) return;
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    while (generation_.load(std::memory_order_seq_cst) == generation) {
      sleep_while(generation_, generation);
    }
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
  }

  void reset() {
    arrived_.store(0);
    sleepers_.store(0);
  }

 private:
  // Whether the generation changed before the time was over.
  bool spin(int generation) const {
    Clock::time_point end{};
    for (int i = 1;; ++i) {
      if (generation_.load(std::memory_order_acquire) != generation) return true;
      relax();
      if (i % 64 == 0) {
        const Clock::time_point now = Clock::now();
        if (i == 64) end = now + kSpinTime;
        if (now >= end) return false;
      }
    }
  }

  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> generation_{0};
  std::atomic<int> sleepers_{0};
};

Barrier team_barrier;
Placement<kMaxPlaced> placement;     // of the pool that ran last
std::atomic<int64_t> last_end{0};    // of a region of several threads
std::atomic<int64_t> last_alone{0};  // when a short region last went alone
std::atomic<bool> team_busy{false};
std::atomic<int> owners{0};
bool may_spin = true;  // of the region under way: no more threads than CPUs

// What this thread knows of its own pool.
struct Pool {
  int held = 1;   // the thread itself and the others; libgomp ends those that a region leaves out
  int asked = 1;  // by the last look at what can be started
  int found = 1;
  int64_t looked = 0;  // when that was
  bool is_owner = false;
  bool has_threads = false;

  ~Pool() {
    if (is_owner) owners.fetch_sub(1, std::memory_order_relaxed);
  }
};

thread_local Pool pool;

// libgomp ends the process where a thread cannot be made, so make them by hand before: how many of
// `wanted` threads can be there at once.
int count_startable(int wanted) {
  std::atomic<int> gate{0};
  std::vector<std::thread> made;
  try {
    made.reserve(static_cast<size_t>(wanted));
    for (int i = 0; i < wanted; ++i) made.emplace_back([&gate] { gate.wait(0); });
  } catch (const std::system_error&) {  // there are fewer
  } catch (const std::bad_alloc&) {
  }
  gate.store(1);
  gate.notify_all();
  for (std::thread& thread : made) thread.join();
  return static_cast<int>(made.size());
}

// Before a fork: the pool of a thread does not survive it, so that of the forking thread is
// released in an orderly way; both sides make a new one when they need it. Pools of other threads
// vanish with their threads in the child.
void before_fork() {
  if (pool.has_threads && omp_get_level() == 0) {
    omp_pause_resource_all(omp_pause_soft);
    pool.has_threads = false;
    pool.held = pool.asked = 1;
  }
}

void in_child() {
  team_busy.store(false);
  placement.forget_threads();
  team_barrier.reset();
  owners.store(pool.is_owner ? 1 : 0);
}

[[maybe_unused]] const int threads_at_fork = pthread_atfork(before_fork, nullptr, in_child);

int64_t now() { return Clock::now().time_since_epoch().count(); }

int cpu_count() {
  static const int count = omp_get_num_procs();
  return count;
}

// The number of threads, at most `threads`, for a region of this thread, which has the team.
int usable_threads(int threads) {
  if (!pool.is_owner) {
    if (owners.fetch_add(1, std::memory_order_relaxed) >= kMaxOwners) {
      owners.fetch_sub(1, std::memory_order_relaxed);
      return 1;
    }
    pool.is_owner = true;
  }
  if (threads <= pool.held) return threads;
  const int64_t time = now();
  if (threads > pool.asked || time - pool.looked > Clock::duration(kLookAgain).count()) {
    placement.remember_allowed();
    const int missing = threads - pool.held;
    const int room = count_startable(missing + kSpareThreads) - kSpareThreads;
    pool.asked = threads;
    pool.found = pool.held + std::clamp(room, 0, missing);
    pool.looked = time;
  }
  return std::min(threads, pool.found);
}

// The region under way; there is one at a time. What it holds is not captured by the region, so
// that its threads read nothing before they have told ThreadSanitizer that they began.
struct Region {
  void (*body)(void*, const Worker&);
  void* context;
  int caller_cpu;
} region;

#if defined(__SANITIZE_THREAD__)
// ThreadSanitizer does not see into libgomp. These tell it what OpenMP promises: a region begins
// after all that its caller did before, and is over before all that the caller does next.
char began, ended;

void tell_order(bool acquire, char& point) {
  acquire ? __tsan_acquire(&point) : __tsan_release(&point);
}
#else
constexpr char began = 0, ended = 0;

void tell_order(bool, const char&) {}
#endif

void work_in_region() {
  tell_order(true, began);
  const Worker worker(omp_get_thread_num(), omp_get_num_threads());
  {
    const Placement<kMaxPlaced>::Stay stay(placement, worker.index(), region.caller_cpu);
    region.body(region.context, worker);
    // The barrier at the end of a region spins for milliseconds: on a busy machine it would keep
    // the thread that it waits for from its core. Wait in ours, which soon sleeps.
    worker.barrier();
  }
  tell_order(false, ended);
}

}  // namespace

bool has_openmp() { return true; }

int openmp_cpus() { return omp_get_num_procs(); }

void Worker::wait(void (*last)(void*), void* context) const {
  team_barrier.wait(count_, may_spin, last, context);
}

bool is_awake() {
  const int64_t end = last_end.load(std::memory_order_relaxed);
  return now() - end < Clock::duration(kIdleSpin).count();
}

int awake_threads(int threads) {
  if (threads <= 1 || is_awake()) return threads;
  const int64_t time = now();
  const int64_t before = last_alone.exchange(time, std::memory_order_relaxed);
  return time - before < Clock::duration(kIdleSpin).count() ? threads : 1;
}

void run_region(int threads, void (*body)(void*, const Worker&), void* context) {
  if (threads > 1 && !team_busy.exchange(true, std::memory_order_acquire)) {
    threads = usable_threads(threads);
    if (threads > 1) {
      pool.has_threads = true;
      pool.held = threads;
      may_spin = threads <= cpu_count();
      region = {body, context, may_spin ? current_cpu() : -1};
      if (!is_awake()) placement.part_from(region.caller_cpu, threads);
      tell_order(false, began);
#pragma omp parallel num_threads(threads)
      work_in_region();
      tell_order(true, ended);
      last_end.store(now(), std::memory_order_relaxed);
      team_busy.store(false, std::memory_order_release);
      return;
    }
    team_busy.store(false, std::memory_order_release);
  }
  body(context, Worker(0, 1));
}

#endif

}  // namespace handmill
