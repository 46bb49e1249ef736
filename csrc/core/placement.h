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

/// Where the threads of a team run. Linux wakes a thread on the CPU that it left, even when the
/// caller has moved there meanwhile, and is in no hurry to part the two: they took turns for whole
/// time slices while the other CPU was idle.
template <int kThreads>
class Placement {
 public:
  /// Before the first thread starts: the CPUs that its maker may use.
  void remember_allowed() {
    if (!known_) known_ = sched_getaffinity(0, sizeof(allowed_), &allowed_) == 0;
  }

  void start(int index) {
    seats_[index].thread.store(static_cast<int>(syscall(SYS_gettid)), std::memory_order_relaxed);
  }
  void fall_asleep(int index) { seats_[index].cpu.store(current_cpu(), std::memory_order_relaxed); }

  /// Keeps the threads that fell asleep on that CPU, the caller's, off it.
  void part_from(int cpu, int threads) const {
    for (int i = 1; i < threads; ++i) {
      if (seats_[i].cpu.load(std::memory_order_relaxed) == cpu) {
        move(seats_[i].thread.load(std::memory_order_relaxed), cpu);
      }
    }
  }

  /// The same for a thread that finds itself there.
  void avoid(int cpu) const {
    if (current_cpu() == cpu) move(0, cpu);
  }

  /// After a fork: they are those of the parent.
  void forget_threads() {
    for (Seat& seat : seats_) seat.cpu.store(-1, std::memory_order_relaxed);
  }

 private:
  struct Seat {
    std::atomic<int> thread{-1};
    std::atomic<int> cpu{-1};  // where it last fell asleep
  };

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

template <int kThreads>
class Placement {
 public:
  void remember_allowed() {}
  void start(int) {}
  void fall_asleep(int) {}
  void part_from(int, int) const {}
  void avoid(int) const {}
  void forget_threads() {}
};

#endif

}  // namespace handmill
