#include "core/program.h"

#include <algorithm>

#include "core/check.h"
#include "core/flow_reader.h"

namespace handmill {

#define HM_BUILDER(name) void lower_##name(const NodeView& node, LaunchWriter& writer);
#include "core/lower/builders.def"
#undef HM_BUILDER

namespace {

struct RuleRecord {
  std::string_view name;
  LoweringRule rule;
};

constexpr RuleRecord kRuleRecords[] = {
#define HM_BUILDER(name) {#name, lower_##name},
#include "core/lower/builders.def"
#undef HM_BUILDER
    {"", nullptr}};

class Checker {
 public:
  explicit Checker(Program& program) : program_(program) {
    program_.origins.assign(program_.values.size(), {});
    program_.update_of_variable.assign(program_.variables.size(), -1);
    program_.moving.assign(program_.values.size(), -1);
    program_.result_of.assign(program_.values.size(), -1);
  }

  void sources() {
    for (size_t i = 0; i < program_.inputs.size(); ++i)
      define(program_.inputs[i], Origin::Kind::input, i);
    for (size_t i = 0; i < program_.constants.size(); ++i) {
      const Constant& constant = program_.constants[i];
      define(constant.value, Origin::Kind::constant, i);
      check_static(constant.value, "constant");
      const ValueRecord& record = program_.values[static_cast<size_t>(constant.value)];
      require(
          constant.data.size() == array_bytes(program_.value_dims(constant.value), record.dtype),
          "constant ", constant.value, " has an array of another size");
    }
    for (size_t i = 0; i < program_.variables.size(); ++i) {
      define(program_.variables[i], Origin::Kind::variable, i);
      check_static(program_.variables[i], "variable");
    }
  }

  void node(size_t index) {
    NodeRecord& node = program_.nodes[index];
    for (int value : node.inputs) check_defined(value, node.kernel);
    for (int value : node.outputs) define(value, Origin::Kind::node, index);
    node.control = control_of(node.kernel);
    if (node.control != Control::none) return flows_.node(static_cast<int>(index));
    for (auto [out, in] : node.alias) {
      require(out >= 0 && static_cast<size_t>(out) < node.outputs.size() && in >= 0 &&
                  static_cast<size_t>(in) < node.inputs.size(),
              node.kernel, ": alias (", out, ", ", in, ") is out of range");
    }
    if (node.host) return;
    node.rule = find_lowering_rule(node.kernel);
    require(node.rule != nullptr, "there is no lowering rule named \"", node.kernel, "\"");
  }

  void results() {
    flows_.finish();
    for (int value : program_.outputs) check_defined(value, "outputs");
    for (size_t i = 0; i < program_.updates.size(); ++i) {
      const Update& update = program_.updates[i];
      require(
          update.variable >= 0 && static_cast<size_t>(update.variable) < program_.variables.size(),
          "updates: there is no such variable");
      int& slot = program_.update_of_variable[static_cast<size_t>(update.variable)];
      require(slot < 0, "updates: a variable is written twice");
      slot = static_cast<int>(i);
      check_defined(update.source, "updates");
      const int target = program_.variables[static_cast<size_t>(update.variable)];
      const auto want = program_.value_dims(target), got = program_.value_dims(update.source);
      require(std::equal(want.begin(), want.end(), got.begin(), got.end()) &&
                  dtype_of(target) == dtype_of(update.source),
              "updates: value ", update.source, " does not fit variable ", target);
    }
    for (int position : program_.feeds) {
      require(position >= 0 && static_cast<size_t>(position) < program_.inputs.size(),
              "feeds: there is no such input");
    }
  }

 private:
  Dtype dtype_of(int value) const { return program_.values[static_cast<size_t>(value)].dtype; }

  void define(int value, Origin::Kind kind, size_t index) {
    require(value >= 0 && static_cast<size_t>(value) < program_.values.size(), "there is no value ",
            value);
    Origin& origin = program_.origins[static_cast<size_t>(value)];
    require(origin.kind == Origin::Kind::none, "value ", value, " is defined twice");
    origin = {kind, static_cast<int>(index)};
  }

  void check_defined(int value, std::string_view where) const {
    require(value >= 0 && static_cast<size_t>(value) < program_.values.size() &&
                program_.origins[static_cast<size_t>(value)].kind != Origin::Kind::none,
            where, ": value ", value, " is not computed before it is read");
  }

  void check_static(int value, std::string_view what) const {
    for (int64_t dim : program_.value_dims(value)) {
      require(dim >= 0, what, " ", value, " depends on the sizes of a call");
    }
  }

  Program& program_;
  FlowReader flows_{program_};
};

}  // namespace

LoweringRule find_lowering_rule(std::string_view name) {
  for (const RuleRecord& record : kRuleRecords) {
    if (record.name == name) return record.rule;
  }
  return nullptr;
}

std::vector<std::string> lowering_rule_names() {
  std::vector<std::string> names;
  for (const RuleRecord& record : kRuleRecords) {
    if (record.rule != nullptr) names.emplace_back(record.name);
  }
  return names;
}

void Program::check() {
  for (int64_t dim : dims) {
    require(dim >= -expressions.count(), "there is no expression ", -1 - dim);
  }
  for (const NodeRecord& node : nodes) {
    for (const Attr& attr : node.attrs) {
      for (int i : attr.expressions) {
        require(i >= 0 && i < expressions.count(), node.kernel, ": there is no expression ", i);
      }
    }
  }
  Checker checker(*this);
  checker.sources();
  for (size_t i = 0; i < nodes.size(); ++i) checker.node(i);
  checker.results();
}

}  // namespace handmill
