#include "core/flow_reader.h"

#include <algorithm>

#include "core/check.h"

namespace handmill {
namespace {

struct FlowKindName {
  std::string_view kernel;
  Control control;
};

constexpr FlowKindName kFlowKinds[] = {
    {"scan", Control::scan},       {"while", Control::repeat},  {"switch", Control::choose},
    {"test_while", Control::test}, {"branch", Control::branch}, {"end_branch", Control::end_branch},
    {"end_scan", Control::end},    {"end_while", Control::end}, {"end_switch", Control::end},
};

size_t at(int i) { return static_cast<size_t>(i); }

}  // namespace

Control control_of(std::string_view kernel) {
  for (const FlowKindName& name : kFlowKinds) {
    if (name.kernel == kernel) return name.control;
  }
  return Control::none;
}

void FlowReader::node(int index) {
  NodeRecord& node = program_.nodes[at(index)];
  switch (node.control) {
    case Control::none:
      return;
    case Control::scan:
      return begin_loop(index, Flow::Kind::scan);
    case Control::repeat:
      return begin_loop(index, Flow::Kind::repeat);
    case Control::choose:
      return begin_choice(index);
    default:
      break;
  }
  Flow& flow = open(node);
  if (node.control == Control::test) {
    require(flow.kind == Flow::Kind::repeat && flow.decides < 0 && node.inputs.size() == 1 &&
                program_.values[at(node.inputs[0])].dtype == Dtype::bool_,
            "test_while: one bool decides on a loop");
    flow.decides = node.inputs[0];
  } else if (node.control == Control::branch) {
    require(flow.kind == Flow::Kind::choose && !is_in_branch_.back(),
            "branch: it is not in a switch, or the one before has no end");
    is_in_branch_.back() = true;
    flow.branches.push_back(index);
  } else if (node.control == Control::end_branch) {
    end_branch(node, flow);
  } else {
    constexpr std::string_view kEnds[] = {"end_scan", "end_while", "end_switch"};
    require(node.kernel == kEnds[static_cast<size_t>(flow.kind)], node.kernel,
            ": another flow is open");
    flow.end = index;
    if (flow.kind != Flow::Kind::choose) return end_loop(node, flow);
    require(!flow.branches.empty() && !is_in_branch_.back(), "end_switch: no branch was ended");
    close();
  }
  require(node.outputs.empty(), node.kernel, ": it has no results");
}

void FlowReader::finish() const { require(open_.empty(), "a loop or choice has no end"); }

void FlowReader::begin_loop(int index, Flow::Kind kind) {
  NodeRecord& node = program_.nodes[at(index)];
  node.flow = begin();
  Flow flow{.kind = kind, .depth = static_cast<int>(open_.size()), .begin = index};
  const bool is_scan = kind == Flow::Kind::scan;
  const auto n_carry = at(static_cast<int>(integer(node, "n_carry")));
  const size_t n_xs = is_scan ? at(static_cast<int>(integer(node, "n_xs"))) : 0;
  require(node.inputs.size() == n_carry + n_xs && node.outputs.size() >= n_carry + n_xs,
          node.kernel, ": wrong number of operands");
  std::vector<int64_t> row_of(n_carry, -1);
  for (const Attr& attr : node.attrs) {
    if (attr.name == "rows" && attr.ints.size() == n_carry) row_of = attr.ints;
  }
  size_t next = n_carry + n_xs;
  const auto take = [&] {
    require(next < node.outputs.size(), node.kernel, ": a buffer is missing");
    return node.outputs[next++];
  };
  for (size_t i = 0; i < n_carry; ++i) {
    Flow::Carry carry{.before = node.inputs[i], .in = node.outputs[i]};
    require_same(carry.before, carry.in);
    move(carry.in);
    carry.row = static_cast<int>(row_of[i]);
    const size_t n_buffers = carry.row >= 0 ? 1 : 2;
    for (size_t b = 0; b < n_buffers; ++b) {
      carry.buffers[b] = take();
      require_same(carry.in, carry.buffers[b]);
    }
    flow.carries.push_back(carry);
  }
  for (size_t i = 0; i < n_xs; ++i) {
    flow.xs.push_back({node.inputs[n_carry + i], node.outputs[n_carry + i]});
    require_rows(flow.xs.back().whole, flow.xs.back().row);
    move(flow.xs.back().row);
  }
  while (next < node.outputs.size()) flow.ys.push_back({take(), -1});
  require(is_scan || flow.ys.empty(), "while: it has too many results");
  for (const Flow::Carry& carry : flow.carries) {
    require(carry.row < static_cast<int>(flow.ys.size()), "scan: there is no such row");
  }
  program_.flows.push_back(std::move(flow));
}

void FlowReader::begin_choice(int index) {
  NodeRecord& node = program_.nodes[at(index)];
  require(node.inputs.size() == 1 && program_.values[at(node.inputs[0])].dtype == Dtype::int32,
          "switch: one int32 decides");
  node.flow = begin();
  program_.flows.push_back({.kind = Flow::Kind::choose,
                            .depth = static_cast<int>(open_.size()),
                            .begin = index,
                            .decides = node.inputs[0],
                            .results = node.outputs});
}

void FlowReader::end_loop(NodeRecord& node, Flow& flow) {
  const size_t n_carry = flow.carries.size(), n_ys = flow.ys.size();
  require(node.inputs.size() >= n_carry + n_ys && node.outputs.size() == n_carry, node.kernel,
          ": wrong number of operands");
  for (size_t i = 0; i < n_ys; ++i) {
    Flow::Rows& y = flow.ys[i];
    y.row = node.inputs[n_carry + i];
    require_written(y.row, flow.begin);
    require_rows(y.whole, y.row);
    move(y.row);
  }
  for (size_t i = 0; i < n_carry; ++i) {
    Flow::Carry& carry = flow.carries[i];
    carry.out = node.inputs[i];
    carry.after = node.outputs[i];
    require_same(carry.in, carry.out);
    require_same(carry.in, carry.after);
    move(carry.after);
    if (carry.row >= 0) {
      require(flow.ys[at(carry.row)].row == carry.out, "scan: a carry is another row");
      continue;
    }
    require_written(carry.out, flow.begin);
    move(carry.out);
  }
  require(flow.decides >= 0 || flow.kind == Flow::Kind::scan, "end_while: there is no test");
  close();
}

void FlowReader::end_branch(const NodeRecord& node, Flow& flow) {
  require(flow.kind == Flow::Kind::choose && is_in_branch_.back() &&
              node.inputs.size() == flow.results.size(),
          "end_branch: a branch gives other results than its switch");
  is_in_branch_.back() = false;
  for (size_t i = 0; i < flow.results.size(); ++i) {
    const int value = node.inputs[i];
    require_written(value, flow.branches.back());
    require_same(value, flow.results[i]);
    require(!program_.is_placed(value), "end_branch: a value has two places");
    program_.result_of[at(value)] = flow.results[i];
  }
}

int FlowReader::begin() {
  require(open_.size() < kMostDeep, "loops and choices lie too deep in one another");
  const int flow = static_cast<int>(program_.flows.size());
  open_.push_back(flow);
  is_in_branch_.push_back(false);
  return flow;
}

void FlowReader::close() {
  open_.pop_back();
  is_in_branch_.pop_back();
}

Flow& FlowReader::open(NodeRecord& node) {
  require(!open_.empty(), node.kernel, ": there is no loop or choice around it");
  node.flow = open_.back();
  return program_.flows[at(open_.back())];
}

int64_t FlowReader::integer(const NodeRecord& node, std::string_view name) const {
  for (const Attr& attr : node.attrs) {
    if (attr.name == name && attr.type == Attr::Type::integer && attr.integer >= 0) {
      return attr.integer;
    }
  }
  throw std::invalid_argument(concat(node.kernel, ": \"", name, "\" must be a number"));
}

void FlowReader::move(int value) {
  require(!program_.is_placed(value), "value ", value, " of a loop has two places");
  program_.moving[at(value)] = program_.num_moving++;
}

// What a step gives is computed by a node of the body, which can be told where to write.
void FlowReader::require_written(int value, int after) const {
  const Origin& origin = program_.origins[at(value)];
  require(origin.kind == Origin::Kind::node && origin.index > after, "value ", value,
          " is not computed in the body that gives it");
  const NodeRecord& node = program_.nodes[at(origin.index)];
  if (node.control == Control::none) return;
  const Flow& flow = program_.flows[at(node.flow)];
  const bool is_whole = std::any_of(flow.ys.begin(), flow.ys.end(),
                                    [&](const Flow::Rows& y) { return y.whole == value; });
  require(node.control == Control::choose || is_whole, "value ", value, " has a place already");
}

void FlowReader::require_same(int a, int b) const {
  const auto x = program_.value_dims(a), y = program_.value_dims(b);
  require(program_.values[at(a)].dtype == program_.values[at(b)].dtype &&
              std::equal(x.begin(), x.end(), y.begin(), y.end()),
          "values ", a, " and ", b, " of a loop or choice differ in shape or dtype");
}

void FlowReader::require_rows(int whole, int row) const {
  const auto x = program_.value_dims(whole), y = program_.value_dims(row);
  require(program_.values[at(whole)].dtype == program_.values[at(row)].dtype && !x.empty() &&
              std::equal(x.begin() + 1, x.end(), y.begin(), y.end()),
          "scan: value ", row, " is not a row of value ", whole);
}

}  // namespace handmill
