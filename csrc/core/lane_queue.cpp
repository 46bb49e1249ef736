#include "core/lane_queue.h"

#include <pthread.h>
#include <signal.h>

#include <chrono>
#include <system_error>
#include <utility>

#include "core/placement.h"

namespace handmill {
namespace {

std::atomic<int> callers_cpu{-1};  // where the thread that adds lanes and helps was last

}  // namespace

void LaneQueue::add(std::shared_ptr<Lane> lane) {
  callers_cpu.store(current_cpu(), std::memory_order_relaxed);
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(lane));
    if (static_cast<int>(threads_.size()) < helpers_) {
      // Signals are for the interpreter's own threads.
      sigset_t all, before;
      sigfillset(&all);
      pthread_sigmask(SIG_SETMASK, &all, &before);
      try {
        threads_.emplace_back([this] { work(); });
      } catch (const std::system_error&) {  // no more threads here: fewer will do
        helpers_ = static_cast<int>(threads_.size());
      }
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
  }
  added_.notify_one();
}

std::shared_ptr<Lane> LaneQueue::next() {
  std::shared_ptr<Lane> lane = std::move(waiting_.front());
  waiting_.pop_front();
  return lane;
}

void LaneQueue::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    added_.wait(lock, [this] { return closed_ || !waiting_.empty(); });
    if (closed_) return;
    std::shared_ptr<Lane> lane = next();
    lock.unlock();
    // Linux wakes a thread beside the one that wakes it, where the two take turns for whole lanes
    // while another CPU is idle.
    leave_cpu(callers_cpu.load(std::memory_order_relaxed));
    lane->run([this] { return stopped_.load(std::memory_order_relaxed); });
    lock.lock();
    finished_.push_back(std::move(lane));
    done_.notify_all();
  }
}

void LaneQueue::help(const Lane::Stop& stop) {
  std::unique_lock lock(mutex_);
  if (waiting_.empty()) {
    done_.wait_for(lock, std::chrono::milliseconds(20), [this] { return !finished_.empty(); });
    return;
  }
  std::shared_ptr<Lane> lane = next();
  lock.unlock();
  callers_cpu.store(current_cpu(), std::memory_order_relaxed);
  lane->run(stop);
  lock.lock();
  finished_.push_back(std::move(lane));
}

std::vector<std::shared_ptr<Lane>> LaneQueue::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(finished_, {});
}

int LaneQueue::waiting() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int>(waiting_.size());
}

void LaneQueue::close() {
  stopped_.store(true, std::memory_order_relaxed);
  std::vector<std::thread> threads;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    waiting_.clear();
    threads.swap(threads_);
    helpers_ = 0;
  }
  added_.notify_all();
  for (std::thread& thread : threads) thread.join();
}

}  // namespace handmill
