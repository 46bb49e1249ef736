#include "core/ceilings.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "core/buffer.h"
#include "core/check.h"
#include "core/parallel.h"
#include "core/registry.h"

namespace handmill {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kRoundSeconds = 2e-3;  // long beside a barrier, short beside a time slice
constexpr int64_t kFloatsPerLine = 16;

// A kernel run over and over, each thread on a block of its own.
struct Repeated {
  KernelFunction function;
  const void* args;
  int64_t passes = 1;
  double seconds = 0;  // of the last round

  void run(const Worker& worker) noexcept {
    worker.barrier();
    const Clock::time_point begin = Clock::now();
    for (int64_t i = 0; i < passes; ++i) {
      function(args, {worker.index(), worker.index() + 1}, nullptr);
    }
    worker.barrier();
    if (worker.index() == 0) {
      seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    }
  }

  void round(int threads) {
    run_region(
        threads,
        [](void* erased, const Worker& worker) { static_cast<Repeated*>(erased)->run(worker); },
        this);
  }
};

// Passes a second, the best of the rounds that fit into the time.
double best_rate(KernelFunction function, const void* args, int threads, double seconds) {
  Repeated repeated{function, args};
  for (repeated.round(threads); repeated.seconds < kRoundSeconds; repeated.round(threads)) {
    repeated.passes *= 2;
  }
  double best = 0;
  const Clock::time_point end =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(
                         std::chrono::duration<double>(std::clamp(seconds, 0.0, 60.0)));
  do {
    repeated.round(threads);
    best = std::max(best, static_cast<double>(repeated.passes) / repeated.seconds);
  } while (Clock::now() < end);
  return best;
}

// The size of the team that a region really gets, which may be less than asked for.
int team_size(int threads) {
  require(threads >= 1, "threads must be at least 1, got ", threads);
  int count = 1;
  run_region(
      threads,
      [](void* erased, const Worker& worker) {
        if (worker.index() == 0) *static_cast<int*>(erased) = worker.count();
      },
      &count);
  return count;
}

// Zeros that were written: pages that were only read are all one and the same page, in the cache.
Buffer written_zeros(int64_t bytes) {
  Buffer memory(bytes);
  std::memset(memory.data(), 0, static_cast<size_t>(bytes));
  return memory;
}

}  // namespace

double measure_peak(Isa isa, int threads, double seconds) {
  threads = team_size(threads);
  std::vector<float> sink(static_cast<size_t>(threads));
  // Chains tend to addend / (1 - factor) = 1: no overflow, no denormals.
  const PeakArgs args{sink.data(), int64_t{384} << 10, 0.5f, 0.5f};
  const double rate = best_rate(kernel_function(isa, Kernel::peak), &args, threads, seconds);
  return rate * static_cast<double>(args.flops) * threads;
}

double measure_stream(Stream kind, int64_t bytes, Isa isa, int threads, double seconds) {
  require(bytes > 0 && bytes <= int64_t{1} << 40, "bytes must be in 1 .. 2^40, got ", bytes);
  threads = team_size(threads);
  const Buffer memory = written_zeros(bytes);
  std::vector<float> sink(static_cast<size_t>(threads));
  auto* x = reinterpret_cast<float*>(memory.data());
  StreamArgs args{};
  args.size = bytes / 4 / (kind == Stream::copy ? 2 : 1);
  args.per_block = align_up((args.size + threads - 1) / threads, kFloatsPerLine);
  args.size = std::max(args.size, args.per_block * (threads - 1));
  require(args.size * 4 * (kind == Stream::copy ? 2 : 1) <= align_up(bytes),
          "bytes must give each thread a cache line or more");
  args.x = x;
  args.y = kind == Stream::read ? nullptr : kind == Stream::copy ? x + args.size : x;
  args.sink = sink.data();
  args.factor = 1;
  const double rate = best_rate(kernel_function(isa, Kernel::stream), &args, threads, seconds);
  const double moved = static_cast<double>(args.size) * 4 * (kind == Stream::read ? 1 : 2);
  return rate * moved;
}

double measure_update(int count, int64_t bytes, Isa isa, int threads, double seconds) {
  require(count >= 1 && count <= kMaxStreams, "count must be 1 .. ", kMaxStreams, ", got ", count);
  require(bytes > 0 && bytes <= int64_t{1} << 40, "bytes must be in 1 .. 2^40, got ", bytes);
  threads = team_size(threads);
  UpdateStreamsArgs args{};
  args.count = count;
  args.size = align_up(std::max(bytes / 4 / (count + 1), threads * kFloatsPerLine), kFloatsPerLine);
  args.per_block = align_up((args.size + threads - 1) / threads, kFloatsPerLine);
  // Some lines apart: arrays at equal places of their pages would meet in the same sets of L1.
  const int64_t stride = args.size + 5 * kFloatsPerLine;
  const Buffer memory = written_zeros(stride * (count + 1) * 4);
  auto* first = reinterpret_cast<float*>(memory.data());
  args.y = first;
  for (int j = 0; j < count; ++j) args.x[j] = first + (j + 1) * stride;
  const double rate =
      best_rate(kernel_function(isa, Kernel::update_streams), &args, threads, seconds);
  return rate * static_cast<double>(args.size) * 4 * (2 * count + 1);
}

}  // namespace handmill
