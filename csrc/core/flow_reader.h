// Finds the loops and choices among the nodes of a program.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "core/program.h"

namespace handmill {

class FlowReader {
 public:
  explicit FlowReader(Program& program) : program_(program) {}

  /// Takes a node that controls others, in the order of the program, after its results are defined.
  /// Throws std::invalid_argument where it does not stand in a place that makes sense, or where its
  /// operands are not those of its kernel.
  void node(int index);

  /// To be called after the last node.
  void finish() const;

 private:
  void begin_loop(int index, Flow::Kind kind);
  void begin_choice(int index);
  void end_loop(NodeRecord& node, Flow& flow);
  void end_branch(const NodeRecord& node, Flow& flow);

  int begin();
  void close();
  Flow& open(NodeRecord& node);
  int64_t integer(const NodeRecord& node, std::string_view name) const;
  void move(int value);
  void require_written(int value, int after) const;
  void require_same(int a, int b) const;
  void require_rows(int whole, int row) const;

  Program& program_;
  std::vector<int> open_;           // flows, the innermost last
  std::vector<bool> is_in_branch_;  // of each of them
};

}  // namespace handmill
