// The training loop: gather a batch, run, and again, inside one region.

#include <algorithm>
#include <chrono>

#include "core/flow_plan.h"
#include "core/instance.h"
#include "core/plan.h"

namespace handmill {
namespace {

using Clock = Pace::Clock;

constexpr int64_t kGatherBytes = 32 << 10;  // of a block

bool can_convert(Dtype from, Dtype to) {
  const auto is_float = [](Dtype dtype) {
    return dtype == Dtype::float32 || dtype == Dtype::float64 || dtype == Dtype::bfloat16;
  };
  return from == to || is_float(to) || !is_float(from);
}

}  // namespace

// Copies the rows of one batch from one source to one input.
struct Plan::Gather {
  GatherRowsArgs args;
  KernelFunction function;
  int64_t blocks;

  double cost() const { return 8.0 * static_cast<double>(args.rows * args.row_size); }

  void run(int64_t position, const Worker& worker) const {
    GatherRowsArgs here = args;
    here.position = position;
    const int64_t i = worker.index(), n = worker.count();
    const Range share{blocks * i / n, blocks * (i + 1) / n};
    if (share.begin < share.end) function(&here, share, nullptr);
  }
};

// The memory of the inputs and outputs, which a fed run has no arrays for.
void Plan::prepare_fed(Instance& instance) const {
  std::vector<int> values = program_->inputs;
  values.insert(values.end(), program_->outputs.begin(), program_->outputs.end());
  int64_t bytes = 0;
  for (int value : values) bytes += align_up(value_bytes(value));
  if (instance.fed.data() == nullptr) {
    instance.fed = Buffer(bytes);
    instance.count();
  }
  std::vector<void*> pointers;
  std::byte* next = instance.fed.data();
  for (int value : values) {
    pointers.push_back(next);
    next += align_up(value_bytes(value));
  }
  prepare(instance, pointers.data(), pointers.data() + program_->inputs.size());
}

// The rows of a batch, which all inputs that are fed have in common.
int64_t Plan::fed_rows() const {
  if (program_->feeds.empty()) return 1;
  const auto first = static_cast<size_t>(program_->feeds[0]);
  const std::span<const int64_t> dims = shape(program_->inputs[first]);
  return dims.empty() ? 0 : dims[0];
}

std::vector<Plan::Gather> Plan::make_gathers(const Instance& instance, const Feed& feed) const {
  const int64_t batch = fed_rows();
  require(batch > 0, "a fed run needs batches of at least one row");
  require(program_->feeds.size() == feed.sources.size(), "the program is fed by ",
          program_->feeds.size(), " arrays, the feed has ", feed.sources.size());
  for (size_t i = 0; i < program_->inputs.size(); ++i) {
    require(std::count(program_->feeds.begin(), program_->feeds.end(), static_cast<int>(i)) == 1,
            "input ", i, " is not fed by exactly one array");
  }
  std::vector<Gather> gathers;
  for (size_t i = 0; i < feed.sources.size(); ++i) {
    const Feed::Source& source = feed.sources[i];
    const int value = program_->inputs[static_cast<size_t>(program_->feeds[i])];
    const std::span<const int64_t> want = shape(value);
    const Dtype dtype = program_->values[static_cast<size_t>(value)].dtype;
    require(!want.empty() && want[0] == batch &&
                std::equal(want.begin() + 1, want.end(), source.row_shape.begin(),
                           source.row_shape.end()),
            "array ", i, " of the feed has rows of shape ", shape_text(source.row_shape),
            ", the program takes batches of shape ", shape_text(want));
    require(can_convert(source.dtype, dtype), "array ", i,
            " of the feed: ", dtype_name(source.dtype), " is not converted to ", dtype_name(dtype));
    Gather gather{};
    GatherRowsArgs& args = gather.args;
    args.source = source.data;
    args.order = feed.has_order ? feed.order.data() : nullptr;
    args.y = value_data(instance, value);
    args.rows = batch;
    args.row_size = 1;
    for (int64_t extent : source.row_shape) args.row_size *= extent;
    const int64_t row_bytes = args.row_size * dtype_bytes(dtype);
    args.rows_per_block = std::max<int64_t>(1, kGatherBytes / std::max<int64_t>(1, row_bytes));
    args.from = source.dtype;
    args.to = dtype;
    gather.function = kernel_function(isa_, Kernel::gather_rows);
    gather.blocks = (batch + args.rows_per_block - 1) / args.rows_per_block;
    gathers.push_back(gather);
  }
  return gathers;
}

struct Plan::FedContext {
  const Plan& plan;
  Instance& instance;
  const std::vector<Gather>& gathers;
  int64_t batch, position, steps;
  Clock::time_point deadline;
  FedResult result{};
  bool is_over = false;
  bool awake = true;              // the team; or the next step takes longer without being disturbed
  bool stop[2] = {false, false};  // of even and of odd steps

  // Steps until the run is over, or the number of threads should be chosen anew. The first thread
  // alone writes what is shared. Between its decision on a step and the one two steps later lies a
  // barrier that the slowest reader of the former has reached.
  void run(const Worker& worker) noexcept {
    Clock::time_point begin = Clock::now();
    for (int64_t step = result.steps; step < steps; ++step) {
      for (const Gather& gather : gathers) gather.run(position + step * batch, worker);
      worker.barrier();
      Cursor cursor(plan, instance, worker);
      while (const Segment* segment = cursor.next()) {
        plan.run_segment(instance, *segment, worker);
        if (segment->guards == 0) continue;
        if (const GuardFailure failure = plan.check_guards(instance, segment->guards)) {
          if (worker.index() == 0) result.failure = failure;
          return;
        }
      }
      if (worker.index() == 0) stop[step & 1] = finish_step(step, worker.count(), begin);
      worker.barrier();
      if (stop[step & 1]) return;
    }
  }

  // Whether to leave the region.
  bool finish_step(int64_t step, int threads, Clock::time_point& begin) {
    const Clock::time_point end = Clock::now();
    is_over = end >= deadline;
    const bool rethink =
        threads == 1 ? begin < plan.fed_pace_.alone_until() && end >= plan.fed_pace_.alone_until()
                     : awake && plan.fed_pace_.record(threads, begin, end);
    awake = true;
    result.steps = step + 1;
    begin = end;
    return is_over || rethink;
  }

  void gather_batch(int64_t step, int threads) {
    struct Rows {
      const std::vector<Gather>& gathers;
      int64_t position;
    } rows{gathers, position + step * batch};
    run_region(
        threads,
        [](void* erased, const Worker& worker) {
          const Rows& here = *static_cast<const Rows*>(erased);
          for (const Gather& gather : here.gathers) gather.run(here.position, worker);
        },
        &rows);
  }

  // The same with host nodes, which run between regions, on the calling thread.
  void run_with_host(int threads, int gather_threads) {
    for (int64_t step = 0; step < steps; ++step) {
      gather_batch(step, gather_threads);
      result.failure = plan.run_all(instance, threads);
      if (result.failure) return;
      result.steps = step + 1;
      if (Clock::now() >= deadline) return;
    }
  }
};

FedResult Plan::run_fed(Instance& instance, Feed& feed, int64_t max_steps, double seconds) const {
  const Clock::time_point begin = Clock::now();
  prepare_fed(instance);
  const std::vector<Gather> gathers = make_gathers(instance, feed);
  const int64_t batch = fed_rows(), rows = std::max<int64_t>(0, feed.rows() - feed.position);
  Work work = work_, gather_work = work_.empty();
  for (const Gather& gather : gathers) {
    work.add_launch(gather.cost(), gather.blocks);
    gather_work.add_launch(gather.cost(), gather.blocks);
  }
  work.add_barriers(2);  // after the gathers, and at the end
  gather_work.add_barriers(1);
  const int threads = work.threads(num_threads(), host_nodes_ > 0 ? call_regions() : 0);
  instance.reserve_scratch(threads, scratch_);
  FedContext context{*this,
                     instance,
                     gathers,
                     batch,
                     feed.position,
                     std::clamp<int64_t>(max_steps, 0, rows / batch),
                     begin + std::chrono::duration_cast<Clock::duration>(
                                 std::chrono::duration<double>(std::clamp(seconds, 0.0, 1e9)))};
  if (host_nodes_ > 0) {
    context.run_with_host(threads, gather_work.threads(num_threads()));
  } else {
    while (context.result.steps < context.steps && !context.result.failure && !context.is_over) {
      context.awake = is_awake();
      run_region(
          fed_pace_.choose(threads, Clock::now()),
          [](void* erased, const Worker& worker) { static_cast<FedContext*>(erased)->run(worker); },
          &context);
    }
  }
  feed.position += context.result.steps * batch;
  if (context.result.steps > 0) bump_versions(instance);
  return context.result;
}

}  // namespace handmill
