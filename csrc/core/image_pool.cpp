#include "core/image_pool.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace handmill {
namespace {

// One call of run_image_blocks; lives on the caller's stack until no helper touches it.
struct Job {
  void (*body)(void*, Range);
  void* context;
  int64_t count;
  std::atomic<int64_t> next{0};
  int helpers_wanted = 0;  // guarded by the mutex of the pool, as is helpers_active
  int helpers_active = 0;

  void work() {
    for (int64_t block; (block = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
      body(context, {block, block + 1});
    }
  }
};

class ImagePool {
 public:
  void run(Job& job, int helpers) {
    {
      std::lock_guard lock(mutex_);
      start_threads(helpers);
      job.helpers_wanted = std::min(helpers, thread_count_);
      if (job.helpers_wanted > 0) jobs_.push_back(&job);
    }
    wake_.notify_all();
    job.work();
    std::unique_lock lock(mutex_);
    std::erase(jobs_, &job);
    done_.wait(lock, [&job] { return job.helpers_active == 0; });
  }

 private:
  void start_threads(int wanted) {
    // Helpers take no signals: those are for the interpreter's own threads.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      for (; thread_count_ < wanted; ++thread_count_) {
        std::thread([this] { help(); }).detach();
      }
    } catch (const std::system_error&) {  // no more threads here: fewer will do
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  void help() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return !jobs_.empty(); });
      Job& job = *jobs_.front();
      if (--job.helpers_wanted == 0) std::erase(jobs_, &job);
      ++job.helpers_active;
      lock.unlock();
      job.work();
      lock.lock();
      if (--job.helpers_active == 0) done_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<Job*> jobs_;
  int thread_count_ = 0;
};

// Never destroyed: its threads may outlive static destruction. Only this pointer is shared between
// a parent and its forked child, where the threads and perhaps a locked mutex are gone.
std::atomic<ImagePool*> shared_pool{nullptr};

ImagePool& image_pool() {
  if (ImagePool* pool = shared_pool.load(std::memory_order_acquire)) return *pool;
  static const int registered [[maybe_unused]] = pthread_atfork(
      nullptr, nullptr, [] { shared_pool.store(nullptr, std::memory_order_release); });
  auto* fresh = new ImagePool;
  ImagePool* expected = nullptr;
  if (shared_pool.compare_exchange_strong(expected, fresh, std::memory_order_acq_rel)) {
    return *fresh;
  }
  delete fresh;  // another thread was first; this one has no threads yet
  return *expected;
}

// Pixels of a block: a few tens of microseconds, so that a large image spreads over the threads.
constexpr int64_t kBlockPixels = 16384;

struct WarpCall {
  KernelFunction kernel;
  WarpArgs args;
};

}  // namespace

void run_image_blocks(int64_t count, int threads, void (*body)(void*, Range), void* context) {
  Job job{body, context, count};
  const int64_t helpers = std::min<int64_t>(threads, count) - 1;
  if (helpers <= 0) {
    job.work();
  } else {
    image_pool().run(job, static_cast<int>(helpers));
  }
}

int64_t plan_warp_blocks(WarpArgs& args, int64_t batch) {
  args.rows_per_band = std::clamp<int64_t>(kBlockPixels / std::max<int64_t>(args.W, 1), 1,
                                           std::max<int64_t>(args.H, 1));
  args.bands = (args.H + args.rows_per_band - 1) / args.rows_per_band;
  return batch * args.bands;
}

void warp_images(KernelFunction kernel, WarpArgs args, int64_t batch, int threads) {
  const int64_t blocks = plan_warp_blocks(args, batch);
  WarpCall call{kernel, args};
  run_image_blocks(
      blocks, threads,
      [](void* context, Range range) {
        const auto& c = *static_cast<const WarpCall*>(context);
        c.kernel(&c.args, range, nullptr);
      },
      &call);
}

}  // namespace handmill
