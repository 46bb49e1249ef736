// Threads that train lanes, each a whole one at a time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/lane.h"

namespace handmill {

/// Lanes that wait, run and are done. All methods may be called by any thread.
class LaneQueue {
 public:
  /// Lanes run on `threads` threads: those of the queue, and the one that calls help().
  explicit LaneQueue(int threads) : helpers_(threads - 1) {}
  ~LaneQueue() { close(); }
  LaneQueue(const LaneQueue&) = delete;
  LaneQueue& operator=(const LaneQueue&) = delete;

  void add(std::shared_ptr<Lane> lane);

  /// Runs a lane that waits, if there is one, on this thread; else waits until one is done, or some
  /// milliseconds have passed. `stop` is asked while it runs.
  void help(const Lane::Stop& stop);

  /// Lanes that are done and were not taken before.
  std::vector<std::shared_ptr<Lane>> take();

  /// Lanes that wait for a thread.
  int waiting() const;

  /// Ends what runs at its next step, and all threads.
  void close();

 private:
  void work();
  std::shared_ptr<Lane> next();  // under the lock

  mutable std::mutex mutex_;
  std::condition_variable added_, done_;
  std::deque<std::shared_ptr<Lane>> waiting_;
  std::vector<std::shared_ptr<Lane>> finished_;
  std::vector<std::thread> threads_;
  int helpers_;
  bool closed_ = false;
  std::atomic<bool> stopped_{false};
};

}  // namespace handmill
