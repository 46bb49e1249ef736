// The loop over batches: gather or compose one, run, and again, inside one region.

#include <algorithm>
#include <chrono>
#include <cstring>
#include <variant>

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

// Makes the rows of one batch of one input.
struct Plan::Gather {
  std::variant<GatherRowsArgs, ComposeRowsArgs> args;
  KernelFunction function;
  int64_t blocks;

  double cost() const {
    return std::visit([](const auto& a) { return 8.0 * static_cast<double>(a.rows * a.row_size); },
                      args);
  }

  void run(int64_t position, const Worker& worker) const {
    const int64_t i = worker.index(), n = worker.count();
    const Range share{blocks * i / n, blocks * (i + 1) / n};
    if (share.begin >= share.end) return;
    std::visit(
        [&](auto here) {
          here.position = position;
          function(&here, share, nullptr);
        },
        args);
  }
};

// Copies the rows of one output to the feed's result.
struct Plan::Collect {
  const std::byte* from;
  std::byte* to;
  int64_t first, rows, row_bytes;  // `to` begins with row `first` of the feed

  void run(int64_t position, int64_t index, int64_t count) const {
    const int64_t begin = rows * index / count, end = rows * (index + 1) / count;
    if (begin == end) return;
    std::memcpy(to + (position - first + begin) * row_bytes, from + begin * row_bytes,
                static_cast<size_t>((end - begin) * row_bytes));
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
    int64_t row_size = 1;
    for (int64_t extent : source.row_shape) row_size *= extent;
    const int64_t row_bytes = row_size * dtype_bytes(dtype);
    const int64_t per_block = std::max<int64_t>(1, kGatherBytes / std::max<int64_t>(1, row_bytes));
    std::byte* y = value_data(instance, value);
    Gather gather{};
    gather.blocks = (batch + per_block - 1) / per_block;
    if (feed.composes) {
      require(source.dtype == dtype, "array ", i, " of the feed: rows are composed as they are, ",
              dtype_name(source.dtype), " is not ", dtype_name(dtype));
      gather.args = ComposeRowsArgs{
          source.data, source.row,       source.player, feed.members,      y, 0, batch, row_size,
          per_block,   feed.source_rows, feed.players,  dtype_bytes(dtype)};
      gather.function = kernel_function(isa_, Kernel::compose_rows);
    } else {
      const int64_t* order = feed.has_order ? feed.order.data() : nullptr;
      gather.args =
          GatherRowsArgs{source.data, order, y, 0, batch, row_size, per_block, source.dtype, dtype};
      gather.function = kernel_function(isa_, Kernel::gather_rows);
    }
    gathers.push_back(gather);
  }
  return gathers;
}

std::vector<Plan::Collect> Plan::make_collects(const Instance& instance, const Feed& feed) const {
  std::vector<Collect> collects;
  if (feed.results.empty()) return collects;
  const int64_t batch = fed_rows();
  require(feed.position >= feed.first_result, "results of the feed begin at row ",
          feed.first_result, ", its position is ", feed.position);
  require(feed.results.size() == program_->outputs.size(), "the program has ",
          program_->outputs.size(), " outputs, the feed collects ", feed.results.size());
  for (size_t i = 0; i < feed.results.size(); ++i) {
    const Feed::Result& result = feed.results[i];
    const int value = program_->outputs[i];
    const std::span<const int64_t> have = shape(value);
    const Dtype dtype = program_->values[static_cast<size_t>(value)].dtype;
    require(!have.empty() && have[0] == batch && result.dtype == dtype &&
                std::equal(have.begin() + 1, have.end(), result.row_shape.begin(),
                           result.row_shape.end()),
            "result ", i, " of the feed has ", dtype_name(result.dtype), " rows of shape ",
            shape_text(result.row_shape), ", a batch of the program gives ", dtype_name(dtype),
            " of shape ", shape_text(have));
    const int64_t row_bytes = array_bytes(result.row_shape, dtype);
    collects.push_back({instance.bases[static_cast<size_t>(slots_.outputs) + i], result.data,
                        feed.first_result, batch, row_bytes});
  }
  return collects;
}

struct Plan::FedContext {
  const Plan& plan;
  Instance& instance;
  const std::vector<Gather>& gathers;
  const std::vector<Collect>& collects;
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
      // Before the next barrier nobody writes outputs.
      for (const Collect& collect : collects) {
        collect.run(position + step * batch, worker.index(), worker.count());
      }
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
      for (const Collect& collect : collects) collect.run(position + step * batch, 0, 1);
      result.steps = step + 1;
      if (Clock::now() >= deadline) return;
    }
  }
};

FedResult Plan::run_fed(Instance& instance, Feed& feed, int64_t max_steps, double seconds) const {
  const Clock::time_point begin = Clock::now();
  prepare_fed(instance);
  const std::vector<Gather> gathers = make_gathers(instance, feed);
  const std::vector<Collect> collects = make_collects(instance, feed);
  int64_t end = feed.rows();
  for (const Feed::Result& result : feed.results) {
    end = std::min(end, feed.first_result + result.rows);
  }
  const int64_t batch = fed_rows(), rows = std::max<int64_t>(0, end - feed.position);
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
                     collects,
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
