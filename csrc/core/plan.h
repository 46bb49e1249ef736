// A program made ready for certain sizes: a flat list of launches over one arena.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/binding.h"
#include "core/buffer.h"
#include "core/cpu.h"
#include "core/feed.h"
#include "core/held_bytes.h"
#include "core/lower/layout.h"
#include "core/pace.h"
#include "core/parallel.h"
#include "core/program.h"
#include "core/work.h"

namespace handmill {

struct Launch {
  KernelFunction function;
  int64_t blocks;
  uint32_t args;  // position in the blob
  bool barrier;   // before the launch
};

/// What a plan tells of a launch.
struct LaunchRecord {
  std::string_view kernel;
  int node;  // -1: a copy at the end
  int64_t blocks;
  double flops;
  Traffic traffic;
  bool host, barrier, cached;
  double times;  // how often a run takes it, as far as the sizes tell
};

/// A guard refused the batch: nothing was written.
struct GuardFailure {
  int node = -1;  // -1: no guard failed
  int64_t index = 0;
  double value = 0;
  explicit operator bool() const { return node >= 0; }
};

struct FedResult {
  int64_t steps = 0;
  GuardFailure failure;
};

/// Immutable and thread-safe: each call works on an instance from a pool.
/// Which States are the program's variables is said with each call.
class Plan {
 public:
  /// Memory and resolved arguments of one call at a time.
  struct Instance;

  /// An instance for the time of a call, with the states of a binding that was checked.
  class Lease {
   public:
    Lease(const Plan& plan, const Binding& binding);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Instance& operator*() const { return *instance_; }

   private:
    const Plan& plan_;
    std::unique_ptr<Instance> instance_;
  };

  /// Throws std::invalid_argument where the program does not fit the sizes of its symbols.
  Plan(std::shared_ptr<const Program> program, std::vector<int64_t> sizes, bool keep_all, Isa isa);
  ~Plan();

  const Program& program() const { return *program_; }
  std::span<const int64_t> sizes() const { return sizes_; }
  bool keep_all() const { return keep_all_; }
  /// How many plans had been made when it ran last.
  uint64_t last_use() const { return last_use_.load(std::memory_order_relaxed); }
  Isa isa() const { return isa_; }
  int64_t arena_bytes() const { return layout_.arena_bytes; }
  int64_t lower_bound_bytes() const { return layout_.lower_bound; }
  /// The memory of one instance, beside scratch and what run_fed adds.
  int64_t bytes() const;
  /// Whether a run takes some 20 us or more, which is worth giving up the GIL.
  bool is_long() const { return work_.cost() > kLongCost || host_nodes_ > 0 || has_open_end_; }
  /// Whether a part of it is run by Python.
  bool has_host_nodes() const { return host_nodes_ > 0; }
  /// The threads that finish a call first, if all are there.
  int call_threads() const;
  std::span<const int64_t> shape(int value) const;
  int64_t value_bytes(int value) const { return layout_.values[static_cast<size_t>(value)].bytes; }
  std::span<const LaunchRecord> records() const { return records_; }

  /// Runs once. Input and output pointers are in the program's order; no input may lie in a
  /// variable that the program writes. Throws what a host node throws.
  GuardFailure run(Instance& instance, const void* const* inputs, void* const* outputs) const;

  /// Runs without the copies to outputs and variables: of keep_all plans, which write nothing else.
  GuardFailure run_values(Instance& instance, const void* const* inputs) const;

  /// Where a value lies, until the instance runs again.
  std::byte* value_data(const Instance& instance, int value) const;

  /// Runs steps on the batches of `feed` that follow its position, which moves on, until max_steps
  /// are done, fewer rows than a batch are left, a guard fails, or `seconds` have passed at the end
  /// of a step. Nobody else may use the feed meanwhile.
  FedResult run_fed(Instance& instance, Feed& feed, int64_t max_steps, double seconds) const;

  /// The least time of each record over `repeats` runs, in seconds. Variables are written.
  std::vector<double> profile(Instance& instance, const void* const* inputs, void* const* outputs,
                              int repeats) const;

 private:
  static constexpr double kLongCost = 1e6;  // flops

  struct Reloc {
    uint32_t field;
    int64_t offset;
  };
  struct Segment {
    int host = -1;           // a host node, which runs first
    int begin = 0, end = 0;  // launches
    int guards = 0;          // guard results known at the end of the segment, 0 if no new ones
    Control control = Control::none;  // of a segment without launches: what to do with `flow`
    int flow = -1;
  };
  struct FlowPlan;
  class Cursor;
  struct Packing {  // of the pack launch at the same position
    int variable = -1, constant = -1;
    int slot;
    int64_t bytes;
    std::string key;  // kernel and arguments
  };
  struct Gather;
  struct Collect;
  struct RunContext;
  struct FedContext;

  void make_launches(const Lowering& lowering);
  void find_kept_variables(const Lowering& lowering, std::span<const int> kept);
  void make_relocs(const Lowering& lowering);
  void make_packings(const Lowering& lowering);
  void make_flow_plans(const Lowering& lowering);
  void append_launch(const Lowering& lowering, int raw, bool barrier, double times);

  int64_t description_bytes() const;
  std::unique_ptr<Instance> make_instance() const;
  void set_base(Instance& instance, int slot, const void* base) const;
  void refresh_variables(Instance& instance) const;
  void refresh_packed(Instance& instance) const;
  void refresh_kept(Instance& instance) const;
  int num_slots() const { return slots_.packed + static_cast<int>(layout_.packed_bytes.size()); }
  void prepare(Instance& instance, const void* const* inputs, void* const* outputs) const;
  void run_host(const Instance& instance, int node) const;
  void run_segment(const Instance& instance, const Segment& segment, const Worker& worker) const;
  void enter_step(Instance& instance, const FlowPlan& flow, int64_t step) const;
  void leave_loop(Instance& instance, const FlowPlan& flow, int64_t steps) const;
  GuardFailure check_guards(const Instance& instance, int count) const;
  double call_regions() const;  // what those of a call cost a second thread
  GuardFailure run_all(Instance& instance, int threads) const;
  void bump_versions(const Instance& instance) const;

  void prepare_fed(Instance& instance) const;
  int64_t fed_rows() const;
  std::vector<Gather> make_gathers(const Instance& instance, const Feed& feed) const;
  std::vector<Collect> make_collects(const Instance& instance, const Feed& feed) const;

  std::shared_ptr<const Program> program_;
  std::vector<int64_t> sizes_;
  bool keep_all_;
  Isa isa_;
  Slots slots_;
  Layout layout_;
  std::vector<int64_t> dims_;
  std::vector<std::byte> blob_;
  // Run when a variable that they read has changed: one for each packing, then those of kept
  // results.
  std::vector<Launch> pack_launches_;
  std::vector<Packing> packings_;
  std::vector<int> kept_variables_;  // that kept results are computed from
  std::vector<Launch> launches_;
  std::vector<Segment> segments_;
  std::vector<FlowPlan> flows_;
  std::vector<LaunchRecord> records_;  // pack_launches_, then launches and host nodes in order
  std::vector<Reloc> relocs_;          // sorted by slot
  std::vector<uint32_t> first_reloc_;  // of each slot, and the end
  std::vector<int> guards_;            // node of each guard result
  int end_copies_ = 0;                 // where the copies at the end begin in launches_
  Work work_, pack_work_;              // of one run, and of the pack launches
  int64_t scratch_ = 0;                // bytes a thread
  int host_nodes_ = 0;                 // each parts one region from the next
  bool has_open_end_ = false;          // a loop whose number of steps only the run knows

  mutable Pace pace_, fed_pace_;
  mutable std::atomic<uint64_t> last_use_;
  HeldBytes held_;
  std::shared_ptr<InstancePool> pool_;
};

}  // namespace handmill
