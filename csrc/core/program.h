// The description of a program, for any sizes and any contents of its variables.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/buffer.h"
#include "core/dims.h"
#include "core/dtype.h"
#include "core/flow.h"
#include "core/packed.h"

namespace handmill {

class NodeView;
class LaunchWriter;
using LoweringRule = void (*)(const NodeView& node, LaunchWriter& writer);

/// The rule of that name, null if there is none.
LoweringRule find_lowering_rule(std::string_view name);

/// All names, in the order of builders.def.
std::vector<std::string> lowering_rule_names();

struct ArrayRef {
  void* data;
  Dtype dtype;
  std::span<const int64_t> shape;
};

/// What a host node calls, on the thread that called the plan. It may throw.
using HostFunction =
    std::function<void(std::span<const ArrayRef> inputs, std::span<const ArrayRef> outputs,
                       std::span<const int64_t> sizes)>;

struct ValueRecord {
  Dtype dtype;
  uint32_t dims;  // position of the first dimension in Program::dims
  uint32_t rank;
};

struct Attr {
  enum class Type { boolean, integer, real, text, tuple, expressions };
  std::string name;
  Type type;
  int64_t integer = 0;
  double real = 0;
  std::string text;
  std::vector<int64_t> ints;  // empty if one of the tuple is not an integer
  std::vector<double> floats;
  std::vector<int> expressions;  // one, or a tuple of them
};

struct NodeRecord {
  std::string kernel;
  std::string scope;
  std::vector<int> inputs, outputs;
  std::vector<Attr> attrs;
  std::vector<std::pair<int, int>> alias;  // positions (output, input)
  HostFunction host;
  bool guard = false;
  LoweringRule rule = nullptr;  // null for host nodes and those that control others
  Control control = Control::none;
  int flow = -1;  // that it controls
};

struct Constant {
  int value;
  Buffer data;
  std::shared_ptr<PackedCopies> packed = std::make_shared<PackedCopies>();
};

struct Update {
  int variable;  // position in Program::variables
  int source;    // value
};

/// Where a value comes from.
struct Origin {
  enum class Kind : uint8_t { none, input, constant, variable, node };
  Kind kind = Kind::none;
  int index = -1;  // of the input, constant, variable or node
};

struct Program {
  std::vector<ValueRecord> values;
  std::vector<int64_t> dims;  // >= 0: as is; -1 - i: the value of expression i
  DimExpressions expressions;
  std::vector<int> inputs;  // values
  std::vector<Constant> constants;
  std::vector<int> variables;     // values; a Binding says which States stand behind them
  std::vector<NodeRecord> nodes;  // in the order in which they run
  std::vector<int> outputs;       // values
  std::vector<Update> updates;
  std::vector<int> feeds;  // positions in inputs, for each source of a feed
  /// Products give each row the bits that it has alone: of programs that read a text as a whole, or
  /// token by token, with other texts beside it or not.
  bool rows_alone = false;

  std::vector<Origin> origins;          // of each value; filled in by check()
  std::vector<int> update_of_variable;  // position in updates, -1 if it is only read
  std::vector<Flow> flows;              // in the order of their first nodes
  std::vector<int> moving;              // of each value: number of its moving slot, or -1
  int num_moving = 0;
  std::vector<int> result_of;  // of each value: the result of a choice that it is, or -1

  /// Whether a node must write the value where it was told to: it cannot be a view.
  bool is_placed(int value) const {
    return moving[static_cast<size_t>(value)] >= 0 || result_of[static_cast<size_t>(value)] >= 0;
  }

  std::span<const int64_t> value_dims(int value) const {
    const ValueRecord& record = values[static_cast<size_t>(value)];
    return {dims.data() + record.dims, record.rank};
  }

  /// Fills in what is derived and the rules of the nodes. Throws std::invalid_argument if the
  /// description is not that of a program: ids out of range, values read before they are computed
  /// or computed twice, updates that do not fit their variable, kernels without a rule.
  void check();
};

}  // namespace handmill
