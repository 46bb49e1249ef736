// Running plans: one region a call, guards, host nodes, cached pack launches.

#include <algorithm>
#include <chrono>
#include <limits>

#include "core/flow_plan.h"
#include "core/instance.h"
#include "core/plan.h"

namespace handmill {
namespace {

using Clock = Pace::Clock;

// Below this a run is over before a thread that sleeps has come to work: some 0.2 ms.
constexpr double kWakeCost = 20e6;

std::byte* scratch_of(const Buffer& scratch, int64_t bytes_each, const Worker& worker) {
  return scratch.data() + worker.index() * align_up(bytes_each);
}

// Each thread takes an even share of the blocks. Which one takes which is of no matter: blocks are
// independent, and what they compute does not depend on the number of threads.
void run_launch(const Launch& launch, const std::byte* blob, std::byte* scratch,
                const Worker& worker) {
  const int64_t i = worker.index(), n = worker.count();
  const Range share{launch.blocks * i / n, launch.blocks * (i + 1) / n};
  if (share.begin < share.end) launch.function(blob + launch.args, share, scratch);
}

void run_launches(std::span<const Launch> launches, const std::byte* blob, std::byte* scratch,
                  const Worker& worker) {
  if (worker.count() == 1) {
    for (const Launch& launch : launches)
      launch.function(blob + launch.args, {0, launch.blocks}, scratch);
    return;
  }
  for (const Launch& launch : launches) {
    if (launch.barrier) worker.barrier();
    if (launch.blocks > 1) {
      run_launch(launch, blob, scratch, worker);
    } else if (worker.index() == 0) {
      launch.function(blob + launch.args, {0, 1}, scratch);
    }
  }
}

template <class Context>
void run_context(int threads, Context& context) {
  run_region(
      threads,
      [](void* erased, const Worker& worker) { static_cast<Context*>(erased)->run(worker); },
      &context);
}

struct LaunchesContext {
  std::span<const Launch> launches;
  const Buffer& blob;
  const Buffer& scratch;
  int64_t scratch_each;

  void run(const Worker& worker) const noexcept {
    run_launches(launches, blob.data(), scratch_of(scratch, scratch_each, worker), worker);
  }
};

}  // namespace

void Plan::refresh_variables(Instance& instance) const {
  const Binding& binding = *instance.binding;
  if (instance.resolved_for == binding.id()) [[likely]] {
    return;
  }
  binding.note(pool_);
  instance.forget_states();
  for (size_t i = 0; i < binding.size(); ++i) {
    set_base(instance, slots_.variables + static_cast<int>(i), binding.state(i).data());
  }
  instance.resolved_for = binding.id();
}

void Plan::refresh_packed(Instance& instance) const {
  for (size_t i = 0; i < packings_.size(); ++i) {
    const Packing& packing = packings_[i];
    State* const state =
        packing.variable < 0 ? nullptr : &instance.binding->state(packing.variable);
    const uint64_t version = state == nullptr ? 0 : state->version();
    std::shared_ptr<Packed>& held = instance.packed[i];
    if (held != nullptr && held->version == version) [[likely]] {
      continue;
    }
    PackedCopies& copies = state != nullptr
                               ? state->packed()
                               : *program_->constants[static_cast<size_t>(packing.constant)].packed;
    copies.update(held, packing.key, packing.bytes, version, [&](std::byte* memory) {
      set_base(instance, packing.slot, memory);
      const int threads = pack_work_.threads(num_threads(), pack_work_.region(false));
      instance.reserve_scratch(threads, scratch_);
      LaunchesContext context{{&pack_launches_[i], 1}, instance.blob, instance.scratch, scratch_};
      run_context(threads, context);
    });
    set_base(instance, packing.slot, held->memory.data());
  }
}

// Versions only rise, so the sum of some is another as soon as one of them is.
void Plan::refresh_kept(Instance& instance) const {
  if (pack_launches_.size() == packings_.size()) return;
  uint64_t versions = 1;
  for (int variable : kept_variables_) versions += instance.binding->state(variable).version();
  if (instance.kept_for == versions) [[likely]] {
    return;
  }
  instance.reserve_scratch(1, scratch_);
  const std::span<const Launch> kept = std::span(pack_launches_).subspan(packings_.size());
  const Worker caller(0, 1);
  run_launches(kept, instance.blob.data(), scratch_of(instance.scratch, scratch_, caller), caller);
  instance.kept_for = versions;
}

void Plan::prepare(Instance& instance, const void* const* inputs, void* const* outputs) const {
  refresh_variables(instance);
  for (int i = slots_.inputs; i < slots_.outputs; ++i) {
    set_base(instance, i, inputs[i - slots_.inputs]);
  }
  for (int i = slots_.outputs; outputs != nullptr && i < slots_.variables; ++i) {
    set_base(instance, i, outputs[i - slots_.outputs]);
  }
  refresh_packed(instance);
  refresh_kept(instance);
  // What lies in a branch that is not taken keeps the result of an earlier run.
  if (!flows_.empty())
    std::fill(instance.guards.begin(), instance.guards.end(), GuardResult{-1, 0});
}

std::byte* Plan::value_data(const Instance& instance, int value) const {
  const Location& at = layout_.values[static_cast<size_t>(value)];
  std::byte* base = at.slot < 0 ? nullptr : instance.bases[static_cast<size_t>(at.slot)];
  return base == nullptr ? nullptr : base + at.offset;
}

void Plan::run_host(const Instance& instance, int node) const {
  const NodeRecord& record = program_->nodes[static_cast<size_t>(node)];
  std::vector<ArrayRef> arrays;
  arrays.reserve(record.inputs.size() + record.outputs.size());
  for (const auto* list : {&record.inputs, &record.outputs}) {
    for (int value : *list) {
      arrays.push_back({value_data(instance, value),
                        program_->values[static_cast<size_t>(value)].dtype, shape(value)});
    }
  }
  const std::span<const ArrayRef> all = arrays;
  record.host(all.first(record.inputs.size()), all.subspan(record.inputs.size()), sizes_);
}

void Plan::run_segment(const Instance& instance, const Segment& segment,
                       const Worker& worker) const {
  const std::span<const Launch> launches(launches_.data() + segment.begin,
                                         launches_.data() + segment.end);
  run_launches(launches, instance.blob.data(), scratch_of(instance.scratch, scratch_, worker),
               worker);
  if (segment.guards > 0) worker.barrier();
}

GuardFailure Plan::check_guards(const Instance& instance, int count) const {
  for (int i = 0; i < count; ++i) {
    const GuardResult& result = instance.guards[static_cast<size_t>(i)];
    if (result.index >= 0) {
      return {guards_[static_cast<size_t>(i)], result.index, result.value};
    }
  }
  return {};
}

struct Plan::RunContext {
  const Plan& plan;
  Instance& instance;
  const Segment* only = nullptr;  // null: all
  int threads = 1;                // that the region had

  // Every thread sees the same guard results and leaves at the same place.
  void run(const Worker& worker) noexcept {
    if (worker.index() == 0) threads = worker.count();
    if (only != nullptr) return plan.run_segment(instance, *only, worker);
    Cursor cursor(plan, instance, worker);
    while (const Segment* segment = cursor.next()) {
      plan.run_segment(instance, *segment, worker);
      if (segment->guards > 0 && plan.check_guards(instance, segment->guards)) return;
    }
  }
};

// All segments, in one region unless host nodes lie between them.
GuardFailure Plan::run_all(Instance& instance, int threads) const {
  instance.reserve_scratch(threads, scratch_);
  if (host_nodes_ == 0) {
    RunContext context{*this, instance};
    if (threads == 1) {
      context.run(Worker(0, 1));
    } else {
      if (work_.cost() < kWakeCost && !threads_are_fixed()) threads = awake_threads(threads);
      const bool awake = is_awake();  // or the run will take longer without being disturbed
      const Clock::time_point begin = Clock::now();
      run_context(pace_.choose(threads, begin), context);
      if (awake) pace_.record(context.threads, begin, Clock::now());
    }
    return check_guards(instance, static_cast<int>(guards_.size()));
  }
  const Worker caller(0, 1);
  Cursor cursor(*this, instance, caller);
  while (const Segment* segment = cursor.next()) {
    if (segment->host >= 0) run_host(instance, segment->host);
    if (segment->begin < segment->end) {
      RunContext context{*this, instance, segment};
      run_context(threads, context);
    }
    if (const GuardFailure failure = check_guards(instance, segment->guards)) return failure;
  }
  return {};
}

void Plan::bump_versions(const Instance& instance) const {
  for (const Update& update : program_->updates) instance.binding->state(update.variable).bump();
}

double Plan::call_regions() const {
  return host_nodes_ * work_.region(false) + work_.region(!program_->updates.empty());
}

int Plan::call_threads() const { return work_.threads(num_threads(), call_regions()); }

GuardFailure Plan::run(Instance& instance, const void* const* inputs, void* const* outputs) const {
  prepare(instance, inputs, outputs);
  const GuardFailure failure = run_all(instance, call_threads());
  if (!failure) bump_versions(instance);
  return failure;
}

GuardFailure Plan::run_values(Instance& instance, const void* const* inputs) const {
  require(keep_all_, "values of a plan can be seen only if it was specialised with keep_all=True");
  prepare(instance, inputs, nullptr);
  // What lies in a branch that is not taken has no address: an earlier run's may be gone.
  std::fill(instance.bases.begin() + slots_.moving, instance.bases.begin() + slots_.packed,
            nullptr);
  instance.reserve_scratch(1, scratch_);
  const Worker caller(0, 1);
  Cursor cursor(*this, instance, caller);
  while (const Segment* next = cursor.next()) {
    Segment segment = *next;
    if (segment.host >= 0) run_host(instance, segment.host);
    segment.begin = std::min(segment.begin, end_copies_);
    segment.end = std::min(segment.end, end_copies_);
    run_segment(instance, segment, caller);
    if (const GuardFailure failure = check_guards(instance, segment.guards)) return failure;
  }
  return {};
}

std::vector<double> Plan::profile(Instance& instance, const void* const* inputs,
                                  void* const* outputs, int repeats) const {
  prepare(instance, inputs, outputs);
  for (size_t i = 0; i < packings_.size(); ++i) {  // copies to write to, that nobody else reads
    auto& held = instance.packed[i];
    const uint64_t version = held->version;
    held = std::make_shared<Packed>(packings_[i].bytes);
    held->version = version;
    set_base(instance, packings_[i].slot, held->memory.data());
  }
  const int threads = work_.threads(num_threads());
  instance.reserve_scratch(threads, scratch_);
  for (const FlowPlan& flow : flows_) {
    if (flow.kind == Flow::Kind::choose) continue;
    enter_step(instance, flow, 0);  // of a loop without steps, too: one inside of it starts there
    leave_loop(instance, flow, std::min<int64_t>(flow.length, 1));
  }
  std::vector<double> least(records_.size(), std::numeric_limits<double>::infinity());
  for (int repeat = 0; repeat < repeats; ++repeat) {
    size_t pack = 0, launch = 0;
    for (size_t i = 0; i < records_.size(); ++i) {
      const LaunchRecord& record = records_[i];
      const Clock::time_point begin = Clock::now();
      if (record.times == 0) {  // a loop without steps, whose rows do not exist
        launch += !record.host;
      } else if (record.host) {
        run_host(instance, record.node);
      } else {
        const Launch* next = record.cached ? &pack_launches_[pack++] : &launches_[launch++];
        LaunchesContext context{{next, 1}, instance.blob, instance.scratch, scratch_};
        run_context(static_cast<int>(std::min<int64_t>(threads, next->blocks)), context);
      }
      const std::chrono::duration<double> seconds = Clock::now() - begin;
      least[i] = std::min(least[i], seconds.count());
    }
  }
  bump_versions(instance);
  return least;
}

}  // namespace handmill
