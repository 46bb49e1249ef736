// Building plans: lowering, layout, launches, relocations; instances.

#include "core/plan.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/flow_plan.h"
#include "core/instance.h"

namespace handmill {
namespace {

std::atomic<uint64_t> plans_made{0};

// What a launch costs, in floating-point operations; a byte of traffic weighs as much as two.
double launch_cost(const LaunchRecord& launch) {
  return launch.flops + 2 * (launch.traffic.read + launch.traffic.written);
}

// Whether a copy finds what it copies already there: an update in place.
bool copies_onto_itself(const Lowering& lowering, const Layout& layout, const RawLaunch& launch) {
  if (!launch.is_copy) return false;
  const Location from = layout.locate(lowering, lowering.accesses[launch.first_access].ref);
  const Location to = layout.locate(lowering, lowering.accesses[launch.first_access + 1].ref);
  return from.slot == to.slot && from.offset == to.offset;
}

// The steps of a loop whose end only the run knows count as so many.
constexpr double kStepsOfAWhile = 8;

// Follows how often the launches after a launch that controls them are taken.
void count_times(const Lowering& lowering, const RawLaunch& launch, std::vector<double>& times) {
  if (launch.control == Control::end) {
    times.pop_back();
  } else if (launch.control == Control::repeat) {
    times.push_back(times.back() * kStepsOfAWhile);
  } else if (launch.control == Control::scan) {
    const NodeView node(lowering, lowering.program.nodes[static_cast<size_t>(launch.node)]);
    times.push_back(times.back() * static_cast<double>(length_of(node)));
  } else if (launch.control == Control::choose) {
    times.push_back(times.back());
  }
}

}  // namespace

Plan::Plan(std::shared_ptr<const Program> program, std::vector<int64_t> sizes, bool keep_all,
           Isa isa)
    : program_(std::move(program)),
      sizes_(std::move(sizes)),
      keep_all_(keep_all),
      isa_(isa),
      slots_(*program_),
      work_(current_tuning().threads),
      pack_work_(work_),
      last_use_(plans_made.fetch_add(1, std::memory_order_relaxed) + 1),
      pool_(std::make_shared<InstancePool>()) {
  Lowering lowering(*program_, sizes_, isa, keep_all);
  lowering.lower_nodes();
  layout_ = lay_out(lowering);
  make_launches(lowering);
  make_flow_plans(lowering);
  make_relocs(lowering);
  make_packings(lowering);
  dims_ = std::move(lowering.dims);
  blob_ = std::move(lowering.blob);
  guards_ = std::move(lowering.guards);
  held_.set(description_bytes());
}

Plan::~Plan() = default;

void Plan::append_launch(const Lowering& lowering, int raw, bool barrier, double times) {
  const RawLaunch& launch = lowering.launches[static_cast<size_t>(raw)];
  const bool cached = launch.info.pack || launch.is_kept;
  records_.push_back({launch.name, launch.node, launch.info.blocks, launch.info.flops,
                      count_traffic(lowering, layout_, launch), launch.function == nullptr, barrier,
                      cached, times});
  if (launch.function == nullptr) return;
  (cached ? pack_launches_ : launches_)
      .push_back({launch.function, launch.info.blocks, launch.args, barrier});
  scratch_ = std::max(scratch_, launch.info.scratch);
  Work& work = cached ? pack_work_ : work_;
  work.add_launch(times * launch_cost(records_.back()), launch.info.blocks);
  work.add_barriers(barrier ? times : 0);
}

void Plan::make_launches(const Lowering& lowering) {
  std::vector<int> packs, kept, order;
  for (size_t i = 0; i < lowering.launches.size(); ++i) {
    const RawLaunch& launch = lowering.launches[i];
    if (i < lowering.first_end_launch && copies_onto_itself(lowering, layout_, launch)) continue;
    (launch.info.pack ? packs : launch.is_kept ? kept : order).push_back(static_cast<int>(i));
  }
  const std::vector<bool> pack_barriers = find_barriers(lowering, layout_, packs);
  for (size_t i = 0; i < packs.size(); ++i) append_launch(lowering, packs[i], pack_barriers[i], 1);
  for (int launch : kept) append_launch(lowering, launch, false, 1);
  find_kept_variables(lowering, kept);
  const std::vector<bool> barriers = find_barriers(lowering, layout_, order);
  segments_.push_back({});
  int guards = 0;
  std::vector<double> times = {1};  // that a run takes the launches at hand
  const auto new_segment = [&](Segment segment) {
    segment.begin = segment.end = static_cast<int>(launches_.size());
    segments_.push_back(segment);
  };
  for (size_t i = 0; i < order.size(); ++i) {
    const RawLaunch& launch = lowering.launches[static_cast<size_t>(order[i])];
    if (order[i] == static_cast<int>(lowering.first_end_launch)) {
      end_copies_ = static_cast<int>(launches_.size());
    }
    if (launch.control != Control::none) {
      const int flow = program_->nodes[static_cast<size_t>(launch.node)].flow;
      count_times(lowering, launch, times);
      new_segment({.control = launch.control, .flow = flow});
      new_segment({});
      const bool is_met =
          launch.control != Control::branch && launch.control != Control::end_branch;
      work_.add_barriers(is_met ? times.back() : 0);
      has_open_end_ |= launch.control == Control::repeat;
      continue;
    }
    const bool is_host = launch.function == nullptr;
    if (is_host) {
      new_segment({.host = launch.node});
      ++host_nodes_;
    }
    append_launch(lowering, order[i], barriers[i], times.back());
    segments_.back().end = static_cast<int>(launches_.size());
    if (!is_host && lowering.ends_region(launch)) {
      segments_.back().guards = ++guards;
      work_.add_barriers(times.back());
      new_segment({});
    }
  }
  if (lowering.first_end_launch == lowering.launches.size()) {
    end_copies_ = static_cast<int>(launches_.size());
  }
}

// The variables that kept results are computed from.
void Plan::find_kept_variables(const Lowering& lowering, std::span<const int> kept) {
  for (int raw : kept) {
    const RawLaunch& launch = lowering.launches[static_cast<size_t>(raw)];
    for (uint32_t k = 0; k < launch.num_accesses; ++k) {
      const int slot =
          layout_.locate(lowering, lowering.accesses[launch.first_access + k].ref).slot;
      if (slot >= slots_.variables && slot < slots_.constants) {
        kept_variables_.push_back(slot - slots_.variables);
      }
    }
  }
  std::sort(kept_variables_.begin(), kept_variables_.end());
  kept_variables_.erase(std::unique(kept_variables_.begin(), kept_variables_.end()),
                        kept_variables_.end());
}

void Plan::make_relocs(const Lowering& lowering) {
  struct Entry {
    int slot;
    Reloc reloc;
  };
  std::vector<Entry> entries;
  entries.reserve(lowering.accesses.size() + lowering.table_fields.size());
  for (const Access& access : lowering.accesses) {
    const Location at = layout_.locate(lowering, access.ref);
    entries.push_back({at.slot, {access.field, at.offset}});
  }
  for (const TableField& table : lowering.table_fields) {
    entries.push_back({Slots::kBlob, {table.field, table.target}});
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.slot < b.slot; });
  first_reloc_.assign(static_cast<size_t>(num_slots()) + 1, 0);
  for (const Entry& entry : entries) {
    relocs_.push_back(entry.reloc);
    ++first_reloc_[static_cast<size_t>(entry.slot) + 1];
  }
  for (size_t s = 1; s < first_reloc_.size(); ++s) first_reloc_[s] += first_reloc_[s - 1];
}

// What decides on the content of a copy, beside the variable or constant, is the kernel (and so the
// level) and its arguments, without their pointers but with the place where it reads.
void Plan::make_packings(const Lowering& lowering) {
  for (const RawLaunch& launch : lowering.launches) {
    if (!launch.info.pack) continue;
    Packing packing{.slot = 0, .bytes = 0, .key = {}};
    std::vector<std::byte> args(lowering.blob.begin() + launch.args,
                                lowering.blob.begin() + launch.args + launch.args_bytes);
    int64_t read_at = 0;
    for (uint32_t k = 0; k < launch.num_accesses; ++k) {
      const Access& access = lowering.accesses[launch.first_access + k];
      std::memset(args.data() + (access.field - launch.args), 0, sizeof(void*));
      const Location at = layout_.locate(lowering, access.ref);
      if (access.access == Access::kWrite) {
        packing.slot = at.slot;
        packing.bytes = at.bytes;
      } else {
        read_at = at.offset;
        const bool is_constant = at.slot >= slots_.constants;
        (is_constant ? packing.constant : packing.variable) =
            at.slot - (is_constant ? slots_.constants : slots_.variables);
      }
    }
    const auto append = [&](const void* data, size_t bytes) {
      packing.key.append(static_cast<const char*>(data), bytes);
    };
    append(&launch.function, sizeof(launch.function));
    append(&read_at, sizeof(read_at));
    append(args.data(), args.size());
    packings_.push_back(std::move(packing));
  }
}

int64_t Plan::bytes() const {
  int64_t total = layout_.arena_bytes + static_cast<int64_t>(blob_.size());
  for (int64_t packed : layout_.packed_bytes) total += packed;
  return total;
}

// The containers that grow with the program; the rest is a few hundred bytes.
int64_t Plan::description_bytes() const {
  const auto bytes = [](const auto& items) { return items.capacity() * sizeof(items[0]); };
  size_t total = sizeof(*this) + bytes(layout_.values) + bytes(layout_.packed_bytes) +
                 bytes(dims_) + bytes(blob_) + bytes(pack_launches_) + bytes(packings_) +
                 bytes(launches_) + bytes(segments_) + bytes(flows_) + bytes(records_) +
                 bytes(relocs_) + bytes(first_reloc_) + bytes(guards_) + bytes(kept_variables_);
  for (const Packing& packing : packings_) total += packing.key.capacity();
  return static_cast<int64_t>(total);
}

std::span<const int64_t> Plan::shape(int value) const {
  const ValueRecord& record = program_->values[static_cast<size_t>(value)];
  return {dims_.data() + record.dims, record.rank};
}

std::unique_ptr<Plan::Instance> Plan::make_instance() const {
  auto instance = std::make_unique<Instance>();
  instance->arena = Buffer(layout_.arena_bytes);
  instance->blob = Buffer(static_cast<int64_t>(blob_.size()));
  if (!blob_.empty()) std::memcpy(instance->blob.data(), blob_.data(), blob_.size());
  instance->guards.assign(guards_.size(), {-1, 0.0});
  instance->bases.assign(static_cast<size_t>(num_slots()), nullptr);
  instance->packed.resize(packings_.size());
  for (const Packing& packing : packings_) {
    instance->packs_variable.push_back(packing.variable >= 0);
  }
  instance->count();
  set_base(*instance, Slots::kArena, instance->arena.data());
  set_base(*instance, Slots::kBlob, instance->blob.data());
  set_base(*instance, Slots::kGuards, instance->guards.data());
  for (size_t i = 0; i < program_->constants.size(); ++i) {
    set_base(*instance, slots_.constants + static_cast<int>(i), program_->constants[i].data.data());
  }
  return instance;
}

// Stores the addresses that depend on the slot. Stores nothing if the base is the same as before.
void Plan::set_base(Instance& instance, int slot, const void* base) const {
  // Arguments hold pointers to const where they only read.
  auto* address = static_cast<std::byte*>(const_cast<void*>(base));
  std::byte*& known = instance.bases[static_cast<size_t>(slot)];
  if (known == address) return;
  known = address;
  const uint32_t end = first_reloc_[static_cast<size_t>(slot) + 1];
  for (uint32_t i = first_reloc_[static_cast<size_t>(slot)]; i < end; ++i) {
    std::byte* pointer = address + relocs_[i].offset;
    std::memcpy(instance.blob.data() + relocs_[i].field, &pointer, sizeof(pointer));
  }
}

Plan::Lease::Lease(const Plan& plan, const Binding& binding)
    : plan_(plan), instance_(plan.pool_->take(binding.id())) {
  if (instance_ == nullptr) instance_ = plan.make_instance();
  instance_->binding = &binding;
  plan.last_use_.store(plans_made.load(std::memory_order_relaxed), std::memory_order_relaxed);
}

Plan::Lease::~Lease() {
  instance_->binding = nullptr;
  plan_.pool_->give_back(std::move(instance_));
}

}  // namespace handmill
