// The GIL given up and taken, also while the interpreter ends.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <thread>
#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

namespace handmill {

/// Calls f, which may ask for the GIL. While the interpreter finalizes, CPython before 3.14 ends
/// such a thread with pthread_exit, whose unwinding a destructor must not let pass: the process
/// would abort. The thread waits here instead until the process is gone, as it does from 3.14 on.
template <class Function>
auto take_gil(Function f) {
#if defined(__GLIBCXX__)
  try {
    return f();
  } catch (abi::__forced_unwind&) {
    while (true) std::this_thread::sleep_for(std::chrono::hours(1));
  }
#else
  return f();
#endif
}

/// Without the GIL for the time of a scope.
class GilRelease {
 public:
  GilRelease() : state_(PyEval_SaveThread()) {}
  ~GilRelease() {
    take_gil([this] { PyEval_RestoreThread(state_); });
  }
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

 private:
  PyThreadState* state_;
};

/// With the GIL for the time of a scope, on any thread.
class GilAcquire {
 public:
  GilAcquire() : state_(take_gil([] { return PyGILState_Ensure(); })) {}
  ~GilAcquire() { PyGILState_Release(state_); }
  GilAcquire(const GilAcquire&) = delete;
  GilAcquire& operator=(const GilAcquire&) = delete;

 private:
  PyGILState_STATE state_;
};

}  // namespace handmill
