// One specialisation under way: a program at certain sizes, its launches, and then its memory.
#pragma once

#include <deque>
#include <span>
#include <string_view>
#include <vector>

#include "core/lower/builder.h"
#include "core/program.h"

namespace handmill {

/// The base addresses that a running instance knows. Pointers in arguments are a slot's base and
/// an offset.
struct Slots {
  static constexpr int kArena = 0;   // buffers of this run
  static constexpr int kBlob = 1;    // arguments and tables
  static constexpr int kGuards = 2;  // GuardResult of each guard
  int inputs, outputs, variables, constants;
  int moving;  // what lies elsewhere in each step of a loop
  int packed;  // from here on: the copies that pack launches make

  explicit Slots(const Program& program)
      : inputs(kGuards + 1),
        outputs(inputs + static_cast<int>(program.inputs.size())),
        variables(outputs + static_cast<int>(program.outputs.size())),
        constants(variables + static_cast<int>(program.variables.size())),
        moving(constants + static_cast<int>(program.constants.size())),
        packed(moving + program.num_moving) {}
};

struct Location {
  int slot = -1;
  int64_t offset = 0;
  int64_t bytes = 0;
};

/// A pointer field at `field` in the blob.
struct Access {
  static constexpr int kRead = 1, kWrite = 2;
  Ref ref;
  uint32_t field;
  int access;
};

/// A pointer field at `field` in the blob that points to `target` in the blob.
struct TableField {
  uint32_t field, target;
};

struct RawLaunch {
  KernelFunction function;  // null: a host node, or one that only controls others
  std::string_view name;
  int node;                   // -1: the copies at the end
  uint32_t args, args_bytes;  // position and size in the blob
  uint32_t first_access, num_accesses;
  LaunchInfo info;
  Control control = Control::none;
  bool is_kept = false;  // see Lowering::kept
  bool is_copy = false;  // of what the first access reads to where the second one writes
};

struct Workspace {
  int64_t bytes;
  int node;
  bool packed = false;  // written by a pack launch
};

class Lowering {
 public:
  /// Resolves the shapes. Throws std::invalid_argument where one is too large.
  Lowering(const Program& program_in, std::span<const int64_t> sizes, Isa isa_in, bool keep_all_in);

  /// Runs the lowering rules, in order of the nodes.
  void lower_nodes();

  ValueView view_of(int value) const;
  std::span<const int64_t> shape(int value) const {
    const ValueRecord& record = program.values[static_cast<size_t>(value)];
    return {dims.data() + record.dims, record.rank};
  }
  std::span<const std::pair<int, int>> offers_of(int node) const {
    const auto i = static_cast<size_t>(node);
    return {offers.data() + first_offer[i], offers.data() + first_offer[i + 1]};
  }
  int64_t bytes(int value) const { return value_bytes[static_cast<size_t>(value)]; }

  /// Whether the value lies in a constant, or in a variable that the program does not write.
  bool is_stable(int value) const;

  /// Whether what the value holds stays until somebody writes a variable: it is stable, or a node
  /// computed it whose results are kept.
  bool is_lasting(int value) const;

  /// The values of a tuple attribute; the lowering holds those of expressions.
  std::span<const int64_t> values_of(const Attr& attr) const;

  /// The bytes from the reference on to the end of what it refers to.
  int64_t bytes_of(const Ref& ref) const;

  int new_workspace(int64_t bytes, int node);

  /// Whether the threads must come together after the launch: a host node, one that guards, or one
  /// that controls others.
  bool ends_region(const RawLaunch& launch) const;

  /// Appends a copy of `bytes` bytes, done by blocks.
  void add_copy(const Ref& from, const Ref& to, int64_t bytes);

  const Program& program;
  const Isa isa;
  const bool keep_all;

  std::vector<int64_t> expressions;  // the value of each
  std::vector<int64_t> dims;         // as Program::dims, resolved
  std::vector<int64_t> value_bytes;  // of each value
  std::vector<int> parent;           // of a view: whose memory it is; -1 for all else
  std::vector<int64_t> parent_offset;
  std::vector<std::byte> blob;
  std::vector<RawLaunch> launches;
  std::vector<Access> accesses;
  std::vector<TableField> table_fields;
  std::vector<Workspace> workspaces;
  std::vector<int> guards;  // node of each guard result
  // Of each node, whether it computes small results from constants and variables that the program
  // does not write, alone: these stay in the arena, and the node runs again only after one of the
  // variables was written.
  std::vector<bool> kept;
  std::vector<std::pair<int, int>> offers;  // positions (output, input) that may share memory
  std::vector<size_t> first_offer;          // of each node, and the end
  size_t first_end_launch = 0;              // from here on: copies to outputs and variables

 private:
  friend class LaunchWriter;

  struct Pending {  // an access whose field is still in the rule's hands
    const std::byte* field;
    Ref ref;
    int access;
  };
  struct PendingTable {
    const std::byte* field;
    const std::byte* items;
    size_t bytes;
  };

  uint32_t append(const void* data, size_t bytes);
  void finish_launch(KernelFunction function, std::string_view name, const void* args, size_t bytes,
                     const LaunchInfo& info);
  void check_written(const NodeRecord& node, size_t first_launch) const;
  void keep_packed(size_t first_launch);
  void find_kept_outside();
  bool may_be_kept(const NodeRecord& node) const;

  int node_ = -1;
  std::vector<bool> is_handed_out_;  // of each value: it is a result or an update of the program
  std::vector<bool> is_in_flow_;     // of each node
  mutable std::deque<std::vector<int64_t>> resolved_;  // of attributes
  std::vector<Pending> pending_;
  std::vector<PendingTable> pending_tables_;
};

}  // namespace handmill
