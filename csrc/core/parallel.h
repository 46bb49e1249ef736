// The thread team. parallel.cpp is the only file that touches OpenMP.
#pragma once

#include <string>

namespace handmill {

/// What one thread of a region knows: its index, the number of threads, the barrier between them.
class Worker {
 public:
  Worker(int index, int count) : index_(index), count_(count) {}
  int index() const { return index_; }
  int count() const { return count_; }
  /// Waits until every thread of the region is here. Spins for some 200 us, then sleeps.
  void barrier() const {
    if (count_ > 1) wait(nullptr, nullptr);
  }
  /// The same; the last thread to arrive calls f() before any of them goes on.
  template <class F>
  void barrier(F f) const {
    if (count_ == 1) return f();
    wait([](void* erased) { (*static_cast<F*>(erased))(); }, &f);
  }

 private:
  void wait(void (*last)(void* context), void* context) const;

  int index_, count_;
};

/// Runs body(context, worker) on up to `threads` threads, the caller among them, and returns when
/// all are done. `body` must not throw and must work with fewer threads than asked for: the caller
/// runs alone where threads are missing or another caller has the team. Calls may not be nested.
void run_region(int threads, void (*body)(void* context, const Worker& worker), void* context);

/// The number of threads that a region uses at most.
int num_threads();

/// While it lives, this thread has no team: num_threads() is 1 for it. For many tasks at once, each
/// of which is one thread's.
class AloneHere {
 public:
  AloneHere();
  ~AloneHere();
  AloneHere(const AloneHere&) = delete;
  AloneHere& operator=(const AloneHere&) = delete;

 private:
  bool before_;
};

/// Sets that number, which may exceed the number of cores. Throws unless threads >= 1.
void set_num_threads(int threads);

/// Whether the number was set by set_num_threads and must be obeyed.
bool threads_are_fixed();

/// Where the number comes from, such as "cgroup quota of 2 CPUs".
std::string thread_reason();

/// Whether the threads still spin: a region ran a moment ago.
bool is_awake();

/// For a region so short that it is over before a sleeping thread has woken up: `threads` where
/// they are awake, or where such regions follow one another closely, so that those to come gain;
/// else 1.
int awake_threads(int threads);

/// The CPUs that OpenMP may use, 1 without it.
int openmp_cpus();

/// Whether this build has OpenMP; without it every region has one thread.
bool has_openmp();

/// The CPUs' worth of time that control groups (v1 or v2) grant this process; 0 if unlimited.
/// `root` is put before the paths /proc and /sys, for tests.
double cgroup_quota(const std::string& root);

}  // namespace handmill
