#include "core/flow_plan.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace handmill {

int64_t length_of(const NodeView& scan) {
  const std::span<const int64_t> length = scan.ints("length");
  require(length.size() == 1 && length[0] >= 0,
          "scan: the length must be one number, not negative");
  return length[0];
}

void Plan::make_flow_plans(const Lowering& lowering) {
  const auto location = [&](int value) { return layout_.values[static_cast<size_t>(value)]; };
  const auto slot = [&](int value) {
    return slots_.moving + program_->moving[static_cast<size_t>(value)];
  };
  for (const Flow& flow : program_->flows) {
    const NodeView node(lowering, program_->nodes[static_cast<size_t>(flow.begin)]);
    FlowPlan plan{.kind = flow.kind,
                  .depth = flow.depth,
                  .length = std::numeric_limits<int64_t>::max(),
                  .reverse = node.flag("reverse")};
    if (flow.kind == Flow::Kind::scan) plan.length = length_of(node);
    if (node.has("maximum_iterations"))
      plan.length = std::max<int64_t>(0, node.i64("maximum_iterations"));
    if (flow.decides >= 0) plan.decides = location(flow.decides);
    for (const auto* list : {&flow.xs, &flow.ys}) {
      for (const Flow::Rows& rows : *list) {
        require(flow.kind != Flow::Kind::scan || lowering.shape(rows.whole)[0] == plan.length,
                "scan: a value has another number of rows than the loop has steps");
        (list == &flow.xs ? plan.xs : plan.ys)
            .push_back({location(rows.whole), slot(rows.row), lowering.bytes(rows.row)});
      }
    }
    for (const Flow::Carry& carry : flow.carries) {
      FlowPlan::Carry made{.before = location(carry.before),
                           .in = slot(carry.in),
                           .out = slot(carry.out),
                           .after = slot(carry.after),
                           .row = carry.row,
                           .bytes = lowering.bytes(carry.in)};
      for (int i = 0; i < 2; ++i) {
        if (carry.buffers[i] >= 0) made.buffers[i] = location(carry.buffers[i]);
      }
      plan.carries.push_back(made);
    }
    flows_.push_back(std::move(plan));
  }
  for (size_t i = 0; i < segments_.size(); ++i) {
    const Segment& segment = segments_[i];
    if (segment.control == Control::none) continue;
    FlowPlan& plan = flows_[static_cast<size_t>(segment.flow)];
    const int at = static_cast<int>(i);
    if (segment.control == Control::branch) plan.branches.push_back(at);
    if (segment.control == Control::end) plan.end = at;
    if (plan.begin < 0) plan.begin = at;
  }
}

// Gives what moves its addresses for a step.
void Plan::enter_step(Instance& instance, const FlowPlan& flow, int64_t step) const {
  const auto address = [&](const Location& at, int64_t offset = 0) {
    return instance.bases[static_cast<size_t>(at.slot)] + at.offset + offset;
  };
  const auto row = [&](const FlowPlan::Rows& rows, int64_t i) {
    return address(rows.whole, rows.stride * (flow.reverse ? flow.length - 1 - i : i));
  };
  for (const FlowPlan::Carry& carry : flow.carries) {
    const std::byte* in = nullptr;
    if (step == 0) {
      in = address(carry.before);
    } else if (carry.row >= 0) {
      in = row(flow.ys[static_cast<size_t>(carry.row)], step - 1);
    } else {
      in = address(carry.buffers[(step - 1) % 2]);
    }
    set_base(instance, carry.in, in);
    if (carry.row < 0) set_base(instance, carry.out, address(carry.buffers[step % 2]));
  }
  for (const auto* list : {&flow.xs, &flow.ys}) {
    for (const FlowPlan::Rows& rows : *list) set_base(instance, rows.slot, row(rows, step));
  }
}

// Says where the carry is after so many steps.
void Plan::leave_loop(Instance& instance, const FlowPlan& flow, int64_t steps) const {
  const auto address = [&](const Location& at) {
    return instance.bases[static_cast<size_t>(at.slot)] + at.offset;
  };
  for (const FlowPlan::Carry& carry : flow.carries) {
    if (carry.row >= 0 && steps > 0) {
      const FlowPlan::Rows& rows = flow.ys[static_cast<size_t>(carry.row)];
      const int64_t last = flow.reverse ? flow.length - steps : steps - 1;
      set_base(instance, carry.after, address(rows.whole) + rows.stride * last);
      continue;
    }
    // Not where it was before: that memory may be a variable's, which is written afterwards.
    if (steps == 0 && carry.bytes > 0) {
      std::memcpy(address(carry.buffers[0]), address(carry.before),
                  static_cast<size_t>(carry.bytes));
    }
    const int64_t last = std::max<int64_t>(steps, 1) - 1;
    set_base(instance, carry.after, address(carry.buffers[last % 2]));
  }
}

void Plan::Cursor::follow(const Segment& segment) {
  const FlowPlan& flow = plan_.flows_[static_cast<size_t>(segment.flow)];
  int64_t& step = steps_[flow.depth];
  const auto enter = [&] { worker_.barrier([&] { plan_.enter_step(instance_, flow, step); }); };
  const auto leave = [&] {
    worker_.barrier([&] { plan_.leave_loop(instance_, flow, step); });
    at_ = flow.end + 1;
  };
  switch (segment.control) {
    case Control::scan:
    case Control::repeat:
      step = 0;
      if (flow.length == 0) return leave();
      enter();
      ++at_;
      return;
    case Control::test: {
      worker_.barrier();
      const bool goes_on = *reinterpret_cast<const bool*>(address(flow.decides));
      if (!goes_on || step == flow.length) return leave();
      ++at_;
      return;
    }
    case Control::choose: {
      worker_.barrier();
      int32_t index = 0;
      std::memcpy(&index, address(flow.decides), sizeof(index));
      const auto last = static_cast<int32_t>(flow.branches.size()) - 1;
      at_ = flow.branches[static_cast<size_t>(std::clamp(index, 0, last))] + 1;
      return;
    }
    case Control::end_branch:
      at_ = flow.end;
      return;
    case Control::end:
      if (flow.kind == Flow::Kind::choose) {
        worker_.barrier();
        ++at_;
        return;
      }
      ++step;
      if (flow.kind == Flow::Kind::scan && step == flow.length) return leave();
      enter();
      at_ = flow.begin + 1;
      return;
    case Control::branch:
    case Control::none:
      ++at_;
      return;
  }
}

}  // namespace handmill
