// On which CPUs the threads of the team run.
#pragma once

#include <atomic>

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace handmill {

#if defined(__linux__)

inline int current_cpu() { return sched_getcpu(); }

/// Lets this thread go to another CPU at once, if it is on that one. It may come back.
inline void leave_cpu(int cpu) {
  cpu_set_t allowed;
  if (cpu < 0 || cpu >= CPU_SETSIZE || current_cpu() != cpu) return;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  cpu_set_t others = allowed;
  CPU_CLR(cpu, &others);
  if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof(others), &others) != 0) return;
  sched_setaffinity(0, sizeof(allowed), &allowed);
}

/// Where the threads of a team were last. Linux wakes a thread on the CPU that it left, even when
/// the caller has moved there meanwhile, and is in no hurry to part the two: they took turns for
/// whole time slices while the other CPU was idle.
template <int kThreads>
class Placement {
  struct Seat {
    std::atomic<int> thread{-1};
    std::atomic<int> cpu{-1};  // where it was last
  };

 public:
  /// Before the first thread starts: the CPUs that its maker may use.
  void remember_allowed() {
    if (!known_) known_ = sched_getaffinity(0, sizeof(allowed_), &allowed_) == 0;
  }

  /// A thread's part in a region: it leaves the CPU of the caller (-1: any will do), and says where
  /// it was at the end.
  class Stay {
   public:
    Stay(Placement& placement, int index, int caller_cpu)
        : seat_(index > 0 && index < kThreads ? &placement.seats_[index] : nullptr) {
      if (seat_ == nullptr) return;
      static thread_local const int thread = static_cast<int>(syscall(SYS_gettid));
      seat_->thread.store(thread, std::memory_order_relaxed);
      if (caller_cpu >= 0 && current_cpu() == caller_cpu) placement.move(0, caller_cpu);
    }
    ~Stay() {
      if (seat_ != nullptr) seat_->cpu.store(current_cpu(), std::memory_order_relaxed);
    }
    Stay(const Stay&) = delete;
    Stay& operator=(const Stay&) = delete;

   private:
    Seat* seat_;
  };

  /// Keeps the threads that fell asleep on that CPU, the caller's, off it.
  void part_from(int cpu, int threads) const {
    for (int i = 1; i < threads && i < kThreads; ++i) {
      if (cpu >= 0 && seats_[i].cpu.load(std::memory_order_relaxed) == cpu) {
        move(seats_[i].thread.load(std::memory_order_relaxed), cpu);
      }
    }
  }

  /// After a fork: they are those of the parent.
  void forget_threads() {
    for (Seat& seat : seats_) seat.cpu.store(-1, std::memory_order_relaxed);
  }

 private:
  void move(int thread, int cpu) const {
    if (!known_ || cpu < 0 || cpu >= CPU_SETSIZE) return;
    cpu_set_t others = allowed_;
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) > 0) sched_setaffinity(thread, sizeof(others), &others);
  }

  cpu_set_t allowed_{};
  bool known_ = false;
  Seat seats_[kThreads];
};

#else

inline int current_cpu() { return -1; }

inline void leave_cpu(int) {}

template <int kThreads>
class Placement {
 public:
  struct Stay {
    Stay(Placement&, int, int) {}
  };
  void remember_allowed() {}
  void part_from(int, int) const {}
  void forget_threads() {}
};

#endif

}  // namespace handmill
