#include "core/lower/layout.h"

#include <algorithm>

#include "core/memory.h"

namespace handmill {
namespace {

using Kind = Origin::Kind;

// The values that share one memory are represented by their root, the one that is no view.
class Planner {
 public:
  explicit Planner(Lowering& lowering)
      : lowering_(lowering),
        program_(lowering.program),
        slots_(program_),
        end_(static_cast<int>(program_.nodes.size())) {}

  Layout run() {
    find_roots();
    find_readers();
    place_updates();
    place_outputs();
    copy_at_end();
    plan_buffers();
    return std::move(layout_);
  }

 private:
  struct Root {
    int value;
    int64_t offset;
  };

  const Origin& origin(int value) const { return program_.origins[static_cast<size_t>(value)]; }
  const Root& root(int value) const { return roots_[static_cast<size_t>(value)]; }
  int& last(int value) { return last_[static_cast<size_t>(value)]; }
  Location& place(int value) { return layout_.values[static_cast<size_t>(value)]; }
  bool is_free(int value) { return origin(value).kind == Kind::node && place(value).slot < 0; }
  bool is_kept(int value) const {
    const Origin& from = origin(value);
    return from.kind == Kind::node && lowering_.kept[static_cast<size_t>(from.index)];
  }
  bool is_whole(int value) const {
    return root(value).offset == 0 && lowering_.bytes(value) == lowering_.bytes(root(value).value);
  }

  void find_roots() {
    const size_t n = program_.values.size();
    roots_.resize(n);
    layout_.values.resize(n);
    for (size_t v = 0; v < n; ++v) {
      Root r{static_cast<int>(v), 0};
      while (lowering_.parent[static_cast<size_t>(r.value)] >= 0) {
        r.offset += lowering_.parent_offset[static_cast<size_t>(r.value)];
        r.value = lowering_.parent[static_cast<size_t>(r.value)];
      }
      roots_[v] = r;
      const Origin& from = origin(static_cast<int>(v));
      Location& location = layout_.values[v];
      location.bytes = lowering_.value_bytes[v];
      if (from.kind == Kind::input) location.slot = slots_.inputs + from.index;
      if (from.kind == Kind::constant) location.slot = slots_.constants + from.index;
      if (from.kind == Kind::variable) location.slot = slots_.variables + from.index;
      if (program_.moving[v] >= 0) location.slot = slots_.moving + program_.moving[v];
    }
  }

  void find_readers() {
    last_.assign(program_.values.size(), -1);
    is_lent_.assign(program_.values.size(), false);
    for (size_t v = 0; v < program_.values.size(); ++v) {
      const Origin& from = origin(static_cast<int>(v));
      if (from.kind == Kind::node) last(root(static_cast<int>(v)).value) = from.index;
    }
    for (int i = 0; i < end_; ++i) {
      for (int value : program_.nodes[static_cast<size_t>(i)].inputs) {
        int& reader = last(root(value).value);
        reader = std::max(reader, i);
      }
    }
    for (int value : program_.outputs) last(root(value).value) = end_;
    for (const Update& update : program_.updates) last(root(update.source).value) = end_;
    // Later ones first: they may read for longer where an earlier one left its result.
    for (size_t i = program_.flows.size(); i-- > 0;) extend(program_.flows[i]);
    for (size_t v = 0; v < program_.values.size(); ++v) {
      if (is_kept(static_cast<int>(v))) last(root(static_cast<int>(v)).value) = end_;
    }
    if (lowering_.keep_all) std::fill(last_.begin(), last_.end(), end_);
  }

  // What a loop or choice reads and writes is there until it ends, and where a result lies in the
  // loop's memory, until that was read.
  void extend(const Flow& flow) {
    const auto until = [&](int value, int time) {
      if (value < 0) return;
      int& reader = last(root(value).value);
      reader = std::max(reader, time);
    };
    until(flow.decides, flow.end);
    for (int value : flow.results) until(value, flow.end);
    for (const Flow::Rows& x : flow.xs) until(x.whole, flow.end);
    for (const Flow::Rows& y : flow.ys) until(y.whole, flow.end);
    for (const Flow::Carry& carry : flow.carries) {
      const int read = std::max(flow.end, last(root(carry.after).value));
      until(carry.before, flow.end);
      for (int buffer : carry.buffers) until(buffer, read);
      if (carry.row < 0) continue;
      const int whole = flow.ys[static_cast<size_t>(carry.row)].whole;
      until(whole, read);
      is_lent_[static_cast<size_t>(root(whole).value)] = true;
    }
  }

  // Whether every operand of the node that lies in `memory` is offered to result `out`.
  bool may_overwrite(int node_index, int out, int memory) const {
    if (is_lent_[static_cast<size_t>(memory)]) return false;
    const NodeRecord& node = program_.nodes[static_cast<size_t>(node_index)];
    const auto offers = lowering_.offers_of(node_index);
    for (size_t p = 0; p < node.inputs.size(); ++p) {
      if (root(node.inputs[p]).value != memory) continue;
      const std::pair<int, int> offer(out, static_cast<int>(p));
      if (!is_whole(node.inputs[p]) ||
          std::find(offers.begin(), offers.end(), offer) == offers.end()) {
        return false;
      }
    }
    return true;
  }

  void place_updates() {
    if (lowering_.keep_all) return;
    int last_stop = -1;
    for (int i = 0; i < end_; ++i) {
      const NodeRecord& node = program_.nodes[static_cast<size_t>(i)];
      if (node.guard || node.host) last_stop = i;
    }
    for (const Update& update : program_.updates) {
      const int value = root(update.source).value;
      const int target = program_.variables[static_cast<size_t>(update.variable)];
      if (!is_free(value) || !is_whole(update.source)) continue;
      const int node_index = origin(value).index;
      const int reader = last(target);
      if (node_index <= last_stop || reader > node_index) continue;
      const NodeRecord& node = program_.nodes[static_cast<size_t>(node_index)];
      const auto out = std::find(node.outputs.begin(), node.outputs.end(), value);
      if (reader == node_index &&
          !may_overwrite(node_index, static_cast<int>(out - node.outputs.begin()), target)) {
        continue;
      }
      place(value).slot = slots_.variables + update.variable;
    }
  }

  void place_outputs() {
    if (lowering_.keep_all) return;
    for (size_t k = 0; k < program_.outputs.size(); ++k) {
      const int value = root(program_.outputs[k]).value;
      if (is_free(value) && is_whole(program_.outputs[k])) {
        place(value).slot = slots_.outputs + static_cast<int>(k);
      }
    }
  }

  void copy_at_end() {
    const auto value_ref = [&](int value) { return Ref(Ref::Kind::value, value); };
    struct Late {
      Ref from;
      int variable;
    };
    std::vector<Late> late;
    for (const Update& update : program_.updates) {
      const int value = root(update.source).value;
      if (place(value).slot == slots_.variables + update.variable &&
          origin(value).kind == Kind::node) {
        continue;  // computed in place
      }
      Ref from = value_ref(update.source);
      const int64_t bytes = lowering_.bytes(update.source);
      if (origin(value).kind == Kind::variable &&
          program_.update_of_variable[static_cast<size_t>(origin(value).index)] >= 0) {
        // Another variable's old value, which is about to be overwritten.
        const Ref staged(Ref::Kind::workspace, lowering_.new_workspace(bytes, end_));
        lowering_.add_copy(from, staged, bytes);
        from = staged;
      }
      late.push_back({from, update.variable});
    }
    for (size_t k = 0; k < program_.outputs.size(); ++k) {
      const int value = program_.outputs[k];
      if (place(root(value).value).slot == slots_.outputs + static_cast<int>(k)) continue;
      lowering_.add_copy(value_ref(value), Ref(Ref::Kind::output, static_cast<int>(k)),
                         lowering_.bytes(value));
    }
    for (const Late& copy : late) {
      const int target = program_.variables[static_cast<size_t>(copy.variable)];
      lowering_.add_copy(copy.from, Ref(Ref::Kind::variable, copy.variable),
                         lowering_.bytes(target));
    }
  }

  void plan_buffers() {
    std::vector<Lifetime> lifetimes;
    std::vector<Location*> owners;
    std::vector<int> buffer_of(program_.values.size(), -1);
    layout_.workspaces.resize(lowering_.workspaces.size());
    for (size_t v = 0; v < program_.values.size(); ++v) {
      const int value = static_cast<int>(v);
      if (root(value).value != value || !is_free(value)) continue;
      buffer_of[v] = static_cast<int>(lifetimes.size());
      owners.push_back(&place(value));
      const int first = is_kept(value) ? 0 : origin(value).index;
      lifetimes.push_back(lifetime(lowering_.bytes(value), first, last(value)));
    }
    for (size_t w = 0; w < lowering_.workspaces.size(); ++w) {
      const Workspace& workspace = lowering_.workspaces[w];
      Location& location = layout_.workspaces[w];
      location.bytes = workspace.bytes;
      if (workspace.packed) {
        location.slot = slots_.packed + static_cast<int>(layout_.packed_bytes.size());
        layout_.packed_bytes.push_back(workspace.bytes);
      } else {
        owners.push_back(&location);
        lifetimes.push_back(lifetime(workspace.bytes, workspace.node, workspace.node));
      }
    }
    int apart = slots_.packed + static_cast<int>(layout_.packed_bytes.size());
    for (Location* owner : owners) owner->slot = apart++;
    place_views();
    widen_to_intervals(lifetimes);
    const MemoryPlan plan = plan_memory(lifetimes, find_offers(buffer_of));
    for (size_t i = 0; i < owners.size(); ++i) {
      owners[i]->slot = Slots::kArena;
      owners[i]->offset = plan.offsets[i];
    }
    layout_.arena_bytes = plan.total;
    layout_.lower_bound = plan.lower_bound;
    place_views();
  }

  static Lifetime lifetime(int64_t bytes, int first, int last) {
    return {bytes, first, last, first, last};
  }

  void place_views() {
    for (size_t v = 0; v < program_.values.size(); ++v) {
      const Root& r = roots_[v];
      if (r.value == static_cast<int>(v)) continue;
      layout_.values[v].slot = place(r.value).slot;
      layout_.values[v].offset = place(r.value).offset + r.offset;
    }
  }

  // Barriers stand where one launch needs another's result; every buffer is still apart. Between
  // two of them a thread may be at any launch while others are at any other: memory that changed
  // hands there would ask for one more barrier (28 instead of 18 in a step of a net of seven
  // layers).
  void widen_to_intervals(std::vector<Lifetime>& lifetimes) {
    std::vector<int> order;
    for (size_t i = 0; i < lowering_.launches.size(); ++i) {
      const RawLaunch& launch = lowering_.launches[i];
      if (!launch.info.pack && !launch.is_kept) order.push_back(static_cast<int>(i));
    }
    const std::vector<bool> barriers = find_barriers(lowering_, layout_, order);
    struct Interval {
      int first, last;  // nodes
      bool shared;      // by several threads
    };
    std::vector<Interval> intervals;
    bool ended = true;
    for (size_t i = 0; i < order.size(); ++i) {
      const RawLaunch& launch = lowering_.launches[static_cast<size_t>(order[i])];
      const int node = launch.node < 0 ? end_ : launch.node;
      if (ended || barriers[i]) intervals.push_back({node, node, false});
      intervals.back().last = node;
      intervals.back().shared = intervals.back().shared || launch.info.blocks > 1;
      ended = lowering_.ends_region(launch);
    }
    // They follow one another; a node whose launches a barrier parts is in two or more.
    std::erase_if(intervals, [](const Interval& interval) { return !interval.shared; });
    const auto first_with = [&](int node) {
      return std::partition_point(intervals.begin(), intervals.end(),
                                  [&](const Interval& interval) { return interval.last < node; });
    };
    for (Lifetime& life : lifetimes) {
      const auto born = first_with(life.first);
      if (born != intervals.end() && born->first <= life.first) {
        life.from = std::min(life.from, born->first);
      }
      for (auto dies = first_with(life.last); dies != intervals.end() && dies->first <= life.last;
           ++dies) {
        life.to = std::max(life.to, dies->last);
      }
    }
  }

  std::vector<std::pair<int, int>> find_offers(const std::vector<int>& buffer_of) {
    std::vector<std::pair<int, int>> offers;
    for (int i = 0; i < end_; ++i) {
      const NodeRecord& node = program_.nodes[static_cast<size_t>(i)];
      for (auto [out, in] : lowering_.offers_of(i)) {
        const int to = node.outputs[static_cast<size_t>(out)];
        const int from = root(node.inputs[static_cast<size_t>(in)]).value;
        const int to_buffer = buffer_of[static_cast<size_t>(to)];
        const int from_buffer = buffer_of[static_cast<size_t>(from)];
        const auto item = [&](int value) {
          return dtype_bytes(program_.values[static_cast<size_t>(value)].dtype);
        };
        if (to_buffer >= 0 && from_buffer >= 0 &&
            item(to) == item(node.inputs[static_cast<size_t>(in)]) && may_overwrite(i, out, from)) {
          offers.emplace_back(to_buffer, from_buffer);
        }
      }
    }
    return offers;
  }

  Lowering& lowering_;
  const Program& program_;
  const Slots slots_;
  const int end_;  // the time of the copies at the end
  std::vector<Root> roots_;
  std::vector<int> last_;      // of each root: the last node that reads it
  std::vector<bool> is_lent_;  // of each root: a row of it is what a loop's carry ended with
  Layout layout_;
};

struct Span {  // memory that a launch touches
  int slot;
  int64_t begin, end;
  bool write;
};

// The memory in which what a loop left may lie: its slot says only where it does.
class MovingMemory {
 public:
  MovingMemory(const Lowering& lowering, const Layout& layout) {
    const Slots slots(lowering.program);
    for (const Flow& flow : lowering.program.flows) {
      for (const Flow::Carry& carry : flow.carries) {
        const int slot = slots.moving + lowering.program.moving[static_cast<size_t>(carry.after)];
        for (int value : {carry.buffers[0], carry.buffers[1],
                          carry.row < 0 ? -1 : flow.ys[static_cast<size_t>(carry.row)].whole}) {
          if (value >= 0) places_.emplace_back(slot, layout.values[static_cast<size_t>(value)]);
        }
      }
    }
  }

  void add_to(std::vector<Span>& spans, int slot, bool write) const {
    for (const auto& [of, at] : places_) {
      if (of == slot) spans.push_back({at.slot, at.offset, at.offset + at.bytes, write});
    }
  }

 private:
  std::vector<std::pair<int, Location>> places_;
};

bool conflict(const std::vector<Span>& earlier, const Span& now) {
  return std::any_of(earlier.begin(), earlier.end(), [&](const Span& other) {
    return other.slot == now.slot && (other.write || now.write) && other.begin < now.end &&
           now.begin < other.end;
  });
}

// Bytes that lie in one span at least.
double bytes_covered(std::vector<Span> spans, const std::vector<Span>& more = {}) {
  spans.insert(spans.end(), more.begin(), more.end());
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
    return a.slot != b.slot ? a.slot < b.slot : a.begin < b.begin;
  });
  double bytes = 0;
  int slot = -1;
  int64_t end = 0;  // of what is counted in the slot
  for (const Span& span : spans) {
    if (span.slot != slot) {
      slot = span.slot;
      end = span.begin;
    }
    bytes += static_cast<double>(std::max<int64_t>(0, span.end - std::max(end, span.begin)));
    end = std::max(end, span.end);
  }
  return bytes;
}

Traffic count_host_traffic(const Lowering& lowering, int node) {
  const NodeRecord& record = lowering.program.nodes[static_cast<size_t>(node)];
  Traffic traffic;
  for (int value : record.inputs) traffic.read += static_cast<double>(lowering.bytes(value));
  for (int value : record.outputs) traffic.written += static_cast<double>(lowering.bytes(value));
  return traffic;
}

}  // namespace

Location Layout::locate(const Lowering& lowering, const Ref& ref) const {
  const Slots slots(lowering.program);
  Location location;
  switch (ref.kind) {
    case Ref::Kind::value:
      location = values[static_cast<size_t>(ref.id)];
      break;
    case Ref::Kind::workspace:
      location = workspaces[static_cast<size_t>(ref.id)];
      break;
    case Ref::Kind::guard:
      location = {Slots::kGuards, static_cast<int64_t>(sizeof(GuardResult)) * ref.id,
                  sizeof(GuardResult)};
      break;
    case Ref::Kind::output:
      location = {slots.outputs + ref.id, 0, lowering.bytes_of(ref)};
      break;
    case Ref::Kind::variable:
      location = {slots.variables + ref.id, 0, lowering.bytes_of(ref)};
      break;
  }
  require(
      ref.offset >= 0 && ref.offset <= location.bytes && ref.length <= location.bytes - ref.offset,
      "a lowering rule refers to memory outside a value or workspace");
  location.offset += ref.offset;
  location.bytes = ref.length >= 0 ? ref.length : location.bytes - ref.offset;
  return location;
}

Layout lay_out(Lowering& lowering) { return Planner(lowering).run(); }

std::vector<bool> find_barriers(const Lowering& lowering, const Layout& layout,
                                const std::vector<int>& order) {
  std::vector<bool> barriers(order.size(), false);
  const MovingMemory moving(lowering, layout);
  std::vector<Span> serial, shared, now;  // since the last barrier: by the first thread, by several
  for (size_t i = 0; i < order.size(); ++i) {
    const RawLaunch& launch = lowering.launches[static_cast<size_t>(order[i])];
    const bool several = launch.info.blocks > 1;
    now.clear();
    for (uint32_t k = 0; k < launch.num_accesses; ++k) {
      const Access& access = lowering.accesses[launch.first_access + k];
      const Location at = layout.locate(lowering, access.ref);
      const bool write = (access.access & Access::kWrite) != 0;
      now.push_back({at.slot, at.offset, at.offset + at.bytes, write});
      moving.add_to(now, at.slot, write);
    }
    const bool hazard = std::any_of(now.begin(), now.end(), [&](const Span& span) {
      return conflict(shared, span) || (several && conflict(serial, span));
    });
    const bool stops = lowering.ends_region(launch);
    barriers[i] = hazard;
    if (hazard || stops) {
      serial.clear();
      shared.clear();
    }
    if (!stops) {
      auto& list = several ? shared : serial;
      list.insert(list.end(), now.begin(), now.end());
    }
  }
  return barriers;
}

Traffic count_traffic(const Lowering& lowering, const Layout& layout, const RawLaunch& launch) {
  if (launch.control != Control::none) return {};
  if (launch.function == nullptr) return count_host_traffic(lowering, launch.node);
  std::vector<Span> spans[2];  // read, written
  for (uint32_t k = 0; k < launch.num_accesses; ++k) {
    const Access& access = lowering.accesses[launch.first_access + k];
    const Location at = layout.locate(lowering, access.ref);
    for (const bool write : {false, true}) {
      if ((access.access & (write ? Access::kWrite : Access::kRead)) == 0) continue;
      spans[write].push_back({at.slot, at.offset, at.offset + at.bytes, write});
    }
  }
  Traffic traffic{bytes_covered(spans[0]), bytes_covered(spans[1])};
  const double touched = bytes_covered(spans[0], spans[1]);
  traffic.in_place = traffic.read + traffic.written - touched;
  if (launch.info.bytes_read >= 0) traffic.read = launch.info.bytes_read;
  if (launch.info.bytes_written >= 0) traffic.written = launch.info.bytes_written;
  traffic.in_place = std::min({traffic.in_place, traffic.read, traffic.written});
  return traffic;
}

}  // namespace handmill
