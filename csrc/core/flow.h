// Loops and choices of a program: nodes between which launches are repeated or left out.
//
// The nodes of a body stand in the program's list like any others, between a node that begins the
// flow and one that ends it:
//
//   scan        (carry before, xs) -> carry in a step, rows of xs, buffers, ys
//     ...
//   end_scan    (carry that a step computes, rows of ys, whatever the body reads) -> carry after
//
//   while       (carry before) -> carry in a step, buffers
//     ... test_while (one bool) ...
//   end_while   (carry that a step computes, whatever the body reads) -> carry after
//
//   switch      (index) -> results
//     branch, ..., end_branch (results), branch, ...
//   end_switch  (whatever the branches read)
//
// What a step reads and writes of a loop has no memory of its own: its slot gets another address
// before each step, so that nothing is copied. A carry alternates between two buffers, or lies in
// the row that the step before wrote.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace handmill {

/// What a node is to the order in which launches run.
enum class Control : uint8_t { none, scan, repeat, test, choose, branch, end_branch, end };

/// How deep flows may lie in one another.
constexpr size_t kMostDeep = 8;

/// The control of the nodes with this kernel.
Control control_of(std::string_view kernel);

struct Flow {
  enum class Kind : uint8_t { scan, repeat, choose };
  struct Carry {               // values
    int before, in, out = -1;  // before the loop, in a step, computed by a step
    int after = -1;            // the loop
    int buffers[2] = {-1, -1};
    int row = -1;  // position in ys of what `out` is a row of; only a loop without steps then needs
                   // the first buffer
  };
  struct Rows {
    int whole, row;  // values
  };

  Kind kind;
  int depth;                    // number of flows around it
  int begin, end = -1;          // nodes
  int decides = -1;             // value: the truth of the test, or the index
  std::vector<int> branches{};  // nodes
  std::vector<Carry> carries{};
  std::vector<Rows> xs{}, ys{};
  std::vector<int> results{};  // values, of a choice
};

}  // namespace handmill
