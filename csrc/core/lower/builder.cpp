#include "core/lower/builder.h"

#include <algorithm>

#include "core/lower/lowering.h"

namespace handmill {
namespace {

const Attr* find(const NodeRecord& node, std::string_view name) {
  for (const Attr& attr : node.attrs) {
    if (attr.name == name) return &attr;
  }
  return nullptr;
}

[[noreturn]] void fail_attr(const NodeRecord& node, std::string_view name, std::string_view kind) {
  throw std::invalid_argument(concat(node.kernel, ": attribute \"", name, "\" must be ", kind,
                                     find(node, name) ? ", it has another type" : ", it is missing",
                                     node.scope.empty() ? "" : " in ", node.scope));
}

}  // namespace

std::string_view NodeView::kernel() const { return record_.kernel; }
std::string_view NodeView::scope() const { return record_.scope; }
int NodeView::num_inputs() const { return static_cast<int>(record_.inputs.size()); }
int NodeView::num_outputs() const { return static_cast<int>(record_.outputs.size()); }

ValueView NodeView::input(int i) const {
  require(i >= 0 && i < num_inputs(), record_.kernel, ": there is no operand ", i);
  return lowering_.view_of(record_.inputs[static_cast<size_t>(i)]);
}

ValueView NodeView::output(int i) const {
  require(i >= 0 && i < num_outputs(), record_.kernel, ": there is no result ", i);
  return lowering_.view_of(record_.outputs[static_cast<size_t>(i)]);
}

bool NodeView::has(std::string_view name) const { return find(record_, name) != nullptr; }

int64_t NodeView::i64(std::string_view name) const {
  const Attr* attr = find(record_, name);
  if (attr != nullptr && attr->expressions.size() == 1) return lowering_.values_of(*attr)[0];
  if (attr == nullptr || (attr->type != Attr::Type::integer && attr->type != Attr::Type::boolean)) {
    fail_attr(record_, name, "an integer");
  }
  return attr->integer;
}

int64_t NodeView::i64(std::string_view name, int64_t otherwise) const {
  return has(name) ? i64(name) : otherwise;
}

double NodeView::f64(std::string_view name) const {
  const Attr* attr = find(record_, name);
  if (attr == nullptr || (attr->type != Attr::Type::real && attr->type != Attr::Type::integer)) {
    fail_attr(record_, name, "a number");
  }
  return attr->type == Attr::Type::real ? attr->real : static_cast<double>(attr->integer);
}

double NodeView::f64(std::string_view name, double otherwise) const {
  return has(name) ? f64(name) : otherwise;
}

bool NodeView::flag(std::string_view name, bool otherwise) const {
  return has(name) ? i64(name) != 0 : otherwise;
}

std::string_view NodeView::text(std::string_view name, std::string_view otherwise) const {
  const Attr* attr = find(record_, name);
  if (attr == nullptr) return otherwise;
  if (attr->type != Attr::Type::text) fail_attr(record_, name, "a string");
  return attr->text;
}

std::span<const int64_t> NodeView::ints(std::string_view name) const {
  const Attr* attr = find(record_, name);
  if (attr != nullptr && attr->type == Attr::Type::expressions) return lowering_.values_of(*attr);
  if (attr == nullptr || attr->type != Attr::Type::tuple ||
      attr->ints.size() != attr->floats.size()) {
    fail_attr(record_, name, "a tuple of integers");
  }
  return attr->ints;
}

std::span<const double> NodeView::floats(std::string_view name) const {
  const Attr* attr = find(record_, name);
  if (attr == nullptr || attr->type != Attr::Type::tuple) {
    fail_attr(record_, name, "a tuple of numbers");
  }
  return attr->floats;
}

Isa LaunchWriter::isa() const { return lowering_.isa; }

bool LaunchWriter::rows_alone() const { return lowering_.program.rows_alone; }

Ref LaunchWriter::workspace(int64_t bytes) {
  return {Ref::Kind::workspace, lowering_.new_workspace(bytes, lowering_.node_)};
}

void LaunchWriter::pointer(void* field, const Ref& ref, int access) {
  lowering_.pending_.push_back({static_cast<const std::byte*>(field), ref, access});
}

void LaunchWriter::table_field(void* field, const void* items, size_t bytes) {
  lowering_.pending_tables_.push_back(
      {static_cast<const std::byte*>(field), static_cast<const std::byte*>(items), bytes});
}

void LaunchWriter::guard(GuardResult** field) {
  const Ref ref(Ref::Kind::guard, static_cast<int>(lowering_.guards.size()));
  lowering_.guards.push_back(lowering_.node_);
  pointer(field, ref, kWrite);
}

void LaunchWriter::may_overwrite(int output, int input) {
  lowering_.offers.emplace_back(output, input);
}

void LaunchWriter::copy(const ValueView& from, const ValueView& to) {
  lowering_.add_copy(from, to, to.bytes());
}

void LaunchWriter::view(const ValueView& output, const ValueView& input, int64_t byte_offset) {
  const auto out = static_cast<size_t>(output.id);
  const Origin& origin = lowering_.program.origins[out];
  require(origin.kind == Origin::Kind::node && origin.index == lowering_.node_ &&
              byte_offset >= 0 && byte_offset + output.bytes() <= input.bytes(),
          "a view must be a result of its node and lie within an operand");
  if (lowering_.program.is_placed(output.id)) {
    lowering_.add_copy(Ref(input).at(byte_offset, output.bytes()), output, output.bytes());
    return;
  }
  lowering_.parent[out] = input.id;
  lowering_.parent_offset[out] = byte_offset;
}

void LaunchWriter::add_launch(Kernel kernel, const void* args, size_t bytes,
                              const LaunchInfo& info) {
  lowering_.finish_launch(kernel_function(lowering_.isa, kernel), kernel_name(kernel), args, bytes,
                          info);
}

}  // namespace handmill
