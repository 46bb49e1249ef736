// What a lowering rule sees (NodeView) and what it writes (LaunchWriter).
//
// A lowering rule turns one node of a program, whose shapes are all known by now, into launches: a
// kernel, its arguments, and the number of blocks that threads share. It runs each time a program
// is specialised for new sizes, so it should cost about a microsecond. Example:
//
//   void lower_softmax(const NodeView& node, LaunchWriter& writer) {
//     const ValueView x = node.input(0), y = node.output(0);
//     SoftmaxArgs args{};
//     args.N = x.dim(-1);
//     args.M = x.size() / std::max<int64_t>(args.N, 1);
//     args.rows_per_block = ...;                    // from shape and writer.isa() only
//     writer.read(&args.x, x);                      // the pointers: filled in later, in the copy
//     writer.write(&args.y, y);                     //   that add() takes
//     writer.add<Kernel::softmax>(args, {.blocks = ..., .flops = 8.0 * x.size()});
//   }
//
// registered by the row HM_BUILDER(softmax) in builders.def. Launches of a node run in the order of
// add(); a barrier stands between two of them only where one touches what the other writes.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include "core/check.h"
#include "core/cpu.h"
#include "core/dtype.h"
#include "core/registry.h"
#include "kernels/args.h"

namespace handmill {

class Lowering;     // one specialisation under way (core/lower/builder.cpp)
struct NodeRecord;  // a node of a program (core/program.h)

/// A value of the program at the sizes in question.
struct ValueView {
  int id;
  Dtype dtype;
  std::span<const int64_t> shape;
  bool is_constant;
  bool is_variable;
  bool is_stable;    // a constant or variable, or a view of one, that the program does not write
  const void* data;  // the content of a constant; null for all else

  int rank() const { return static_cast<int>(shape.size()); }
  int64_t size() const {  // number of elements
    int64_t n = 1;
    for (int64_t dim : shape) n *= dim;
    return n;
  }
  int64_t bytes() const { return size() * dtype_bytes(dtype); }
  /// The extent of an axis; negative axes count from the end.
  int64_t dim(int axis) const {
    return shape[static_cast<size_t>(axis < 0 ? axis + rank() : axis)];
  }
  /// The product of the extents of axes [begin, end).
  int64_t product(int begin, int end) const {
    int64_t n = 1;
    for (int axis = begin; axis < end; ++axis) n *= dim(axis);
    return n;
  }
};

/// A node: operands, results, attributes. The getters without a default throw
/// std::invalid_argument, which names node and attribute, if it is missing or of another type.
class NodeView {
 public:
  NodeView(const Lowering& lowering, const NodeRecord& record)
      : lowering_(lowering), record_(record) {}

  std::string_view kernel() const;
  std::string_view scope() const;
  int num_inputs() const;
  int num_outputs() const;
  ValueView input(int i) const;
  ValueView output(int i) const;

  bool has(std::string_view name) const;
  int64_t i64(std::string_view name) const;  // also of a bool
  int64_t i64(std::string_view name, int64_t otherwise) const;
  double f64(std::string_view name) const;  // also of an int
  double f64(std::string_view name, double otherwise) const;
  bool flag(std::string_view name, bool otherwise = false) const;
  std::string_view text(std::string_view name, std::string_view otherwise = {}) const;
  std::span<const int64_t> ints(std::string_view name) const;
  std::span<const double> floats(std::string_view name) const;  // also of a tuple of ints

 private:
  const Lowering& lowering_;
  const NodeRecord& record_;
};

/// A place in memory whose address is known only when a plan runs.
struct Ref {
  // output, variable: memory of the program's results and states; lowering rules use values.
  enum class Kind : uint8_t { value, workspace, guard, output, variable };
  Kind kind;
  int id;
  int64_t offset = 0;   // bytes
  int64_t length = -1;  // bytes that the launch may touch from `offset` on; -1: all of the rest

  Ref(const ValueView& value) : kind(Kind::value), id(value.id) {}  // NOLINT: meant to convert
  Ref(Kind kind_, int id_) : kind(kind_), id(id_) {}

  Ref at(int64_t byte_offset, int64_t byte_length = -1) const {
    Ref moved = *this;
    moved.offset += byte_offset;
    moved.length = byte_length;
    return moved;
  }
};

struct LaunchInfo {
  int64_t blocks = 1;   // 0: nothing to do, the launch is left out
  int64_t scratch = 0;  // bytes that each thread needs
  /// Additions, multiplications, divisions, roots and comparisons; a function such as exp in a tile
  /// program counts as one.
  double flops = 0;
  /// Compulsory traffic; -1: all memory that the launch may read (write), each byte once.
  double bytes_read = -1, bytes_written = -1;
  /// The launch computes a workspace from variables or constants alone, as packing weights does.
  /// It is then run again only after one of them was written.
  bool pack = false;
};

class LaunchWriter {
 public:
  explicit LaunchWriter(Lowering& lowering) : lowering_(lowering) {}

  /// The level to lower for: block sizes may depend on it.
  Isa isa() const;

  /// Whether bits of a row must not depend on the number of rows (Program::rows_alone).
  bool rows_alone() const;

  /// Memory for the launches of this node, 64-byte aligned, of any content at first.
  Ref workspace(int64_t bytes);

  /// Declares a pointer field of the arguments (or of a table) handed to the next add(): the
  /// address of `ref` goes there, and the launch reads, writes, or does both with it. A workspace
  /// or value of zero bytes gives some valid address.
  template <class T>
  void read(T** field, const Ref& ref) {
    pointer(field, ref, kRead);
  }
  template <class T>
  void write(T** field, const Ref& ref) {
    static_assert(!std::is_const_v<T>);
    pointer(field, ref, kWrite);
  }
  template <class T>
  void update(T** field, const Ref& ref) {
    static_assert(!std::is_const_v<T>);
    pointer(field, ref, kRead | kWrite);
  }

  /// Copies `items` into the plan and makes `*field` point to the copy. Pointer fields inside
  /// `items` may be declared with read/write/update, with their addresses inside `items`.
  template <class T>
  void table(T** field, std::span<const std::remove_const_t<T>> items) {
    static_assert(std::is_trivially_copyable_v<T>);
    table_field(field, items.data(), items.size_bytes());
  }

  /// For the last launch of a guard node, which has one block: where it writes what it found.
  void guard(GuardResult** field);

  /// Ends a launch. `args` must be the object whose fields were declared.
  template <Kernel kernel>
  void add(const KernelArgs<kernel>& args, const LaunchInfo& info) {
    static_assert(std::is_trivially_copyable_v<KernelArgs<kernel>>);
    add_launch(kernel, &args, sizeof(args), info);
  }

  /// Offers that result `output` may take the memory of operand `input`, beside what the node says:
  /// every launch of the node reads an element of it before it writes the one in the same place, in
  /// the same block.
  void may_overwrite(int output, int input);

  /// Copies a value whose rest a launch behind this one leaves as it is. Where the plan finds both
  /// in the same memory, nothing is done.
  void copy(const ValueView& from, const ValueView& to);

  /// The output is the input's memory, from byte_offset on, as a reshape is. No launch is needed.
  void view(const ValueView& output, const ValueView& input, int64_t byte_offset = 0);

 private:
  static constexpr int kRead = 1, kWrite = 2;

  void pointer(void* field, const Ref& ref, int access);
  void table_field(void* field, const void* items, size_t bytes);
  void add_launch(Kernel kernel, const void* args, size_t bytes, const LaunchInfo& info);

  Lowering& lowering_;
};

}  // namespace handmill
