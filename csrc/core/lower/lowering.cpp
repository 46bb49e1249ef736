#include "core/lower/lowering.h"

#include <algorithm>
#include <limits>

namespace handmill {
namespace {

constexpr int64_t kCopyBlock = 64 << 10;

// Bytes of the results of a node that are kept: each instance of each plan has its own. Factors and
// shifts of normalizations have a few KB; of weights that are converted or turned nobody wants more
// copies than the packed one.
constexpr int64_t kMostKept = 64 << 10;

struct CopyArgs {
  const std::byte* from;
  std::byte* to;
  int64_t bytes;
};

void copy_blocks(const void* erased, Range blocks, void*) {
  const auto& args = *static_cast<const CopyArgs*>(erased);
  const int64_t begin = blocks.begin * kCopyBlock;
  const int64_t end = std::min(args.bytes, blocks.end * kCopyBlock);
  if (begin < end && args.from != args.to) {
    std::memcpy(args.to + begin, args.from + begin, static_cast<size_t>(end - begin));
  }
}

}  // namespace

Lowering::Lowering(const Program& program_in, std::span<const int64_t> sizes, Isa isa_in,
                   bool keep_all_in)
    : program(program_in),
      isa(isa_in),
      keep_all(keep_all_in),
      expressions(program_in.expressions.evaluate(sizes)) {
  dims.reserve(program.dims.size());
  for (int64_t dim : program.dims) {
    dims.push_back(dim >= 0 ? dim : expressions[static_cast<size_t>(-1 - dim)]);
    require(dims.back() >= 0, "a dimension of the program is negative at these sizes");
  }
  const size_t n = program.values.size();
  value_bytes.reserve(n);
  for (size_t v = 0; v < n; ++v) {
    value_bytes.push_back(array_bytes(shape(static_cast<int>(v)), program.values[v].dtype));
  }
  parent.assign(n, -1);
  parent_offset.assign(n, 0);
  for (size_t v = 0; v < n; ++v) parent[v] = program.result_of[v];
  blob.reserve(program.nodes.size() * 512);
  launches.reserve(program.nodes.size() * 2);
  accesses.reserve(program.nodes.size() * 6);
}

ValueView Lowering::view_of(int value) const {
  const Origin& origin = program.origins[static_cast<size_t>(value)];
  const bool constant = origin.kind == Origin::Kind::constant;
  return {value,
          program.values[static_cast<size_t>(value)].dtype,
          shape(value),
          constant,
          origin.kind == Origin::Kind::variable,
          is_stable(value),
          constant ? program.constants[static_cast<size_t>(origin.index)].data.data() : nullptr};
}

bool Lowering::is_stable(int value) const {
  while (parent[static_cast<size_t>(value)] >= 0) value = parent[static_cast<size_t>(value)];
  const Origin& origin = program.origins[static_cast<size_t>(value)];
  return origin.kind == Origin::Kind::constant ||
         (origin.kind == Origin::Kind::variable &&
          program.update_of_variable[static_cast<size_t>(origin.index)] < 0);
}

bool Lowering::is_lasting(int value) const {
  if (is_stable(value)) return true;
  while (parent[static_cast<size_t>(value)] >= 0) value = parent[static_cast<size_t>(value)];
  const Origin& origin = program.origins[static_cast<size_t>(value)];
  return origin.kind == Origin::Kind::node && kept[static_cast<size_t>(origin.index)];
}

// What stands in a loop or choice runs when these say so, and results belong to others.
void Lowering::find_kept_outside() {
  kept.assign(program.nodes.size(), false);
  is_in_flow_.assign(program.nodes.size(), false);
  for (const Flow& flow : program.flows) {
    std::fill(is_in_flow_.begin() + flow.begin, is_in_flow_.begin() + flow.end + 1, true);
  }
  is_handed_out_.assign(program.values.size(), false);
  for (int value : program.outputs) is_handed_out_[static_cast<size_t>(value)] = true;
  for (const Update& update : program.updates) {
    is_handed_out_[static_cast<size_t>(update.source)] = true;
  }
}

bool Lowering::may_be_kept(const NodeRecord& node) const {
  if (keep_all || node.guard || is_in_flow_[static_cast<size_t>(node_)]) return false;
  int64_t size = 0;
  for (int value : node.outputs) {
    if (is_handed_out_[static_cast<size_t>(value)] || program.is_placed(value)) return false;
    size += bytes(value);
  }
  return size <= kMostKept && std::all_of(node.inputs.begin(), node.inputs.end(),
                                          [&](int value) { return is_lasting(value); });
}

int Lowering::new_workspace(int64_t size, int node) {
  require(size >= 0, "a workspace must not have a negative size");
  workspaces.push_back({size, node});
  return static_cast<int>(workspaces.size()) - 1;
}

void Lowering::lower_nodes() {
  LaunchWriter writer(*this);
  find_kept_outside();
  for (size_t i = 0; i < program.nodes.size(); ++i) {
    const NodeRecord& node = program.nodes[i];
    node_ = static_cast<int>(i);
    const size_t first_launch = launches.size();
    first_offer.push_back(offers.size());
    offers.insert(offers.end(), node.alias.begin(), node.alias.end());
    if (node.host || node.control != Control::none) {
      const std::string_view name = node.host ? std::string_view("host") : node.kernel;
      const auto none = static_cast<uint32_t>(accesses.size());
      launches.push_back({nullptr, name, node_, 0, 0, none, 0, {}, node.control});
      continue;
    }
    const size_t first_guard = guards.size();
    node.rule(NodeView(*this, node), writer);
    require(pending_.empty() && pending_tables_.empty(), node.kernel,
            ": the lowering rule declared pointers without a launch");
    require(node.guard == (guards.size() > first_guard), node.kernel,
            ": a node is a guard if and only if its lowering rule writes a guard result");
    check_written(node, first_launch);
    keep_packed(first_launch);
    kept[i] = may_be_kept(node);
    for (size_t k = first_launch; k < launches.size(); ++k) {
      launches[k].is_kept = kept[i] && !launches[k].info.pack;
    }
  }
  node_ = -1;
  first_offer.push_back(offers.size());
  first_end_launch = launches.size();
}

uint32_t Lowering::append(const void* data, size_t bytes) {
  const size_t begin = (blob.size() + 15) / 16 * 16;
  require(begin + bytes <= std::numeric_limits<uint32_t>::max(),
          "the tables of a plan are too large");
  blob.resize(begin + bytes);
  if (bytes > 0) std::memcpy(blob.data() + begin, data, bytes);
  return static_cast<uint32_t>(begin);
}

void Lowering::finish_launch(KernelFunction function, std::string_view name, const void* args,
                             size_t bytes, const LaunchInfo& info) {
  struct Region {  // where memory of the rule went
    const std::byte* begin;
    size_t bytes;
    uint32_t position;
  };
  if (info.blocks <= 0) {
    pending_.clear();
    pending_tables_.clear();
    return;
  }
  const auto first_access = static_cast<uint32_t>(accesses.size());
  std::vector<Region> regions;
  regions.push_back({static_cast<const std::byte*>(args), bytes, append(args, bytes)});
  for (const PendingTable& table : pending_tables_) {
    regions.push_back({table.items, table.bytes, append(table.items, table.bytes)});
  }
  const auto position_of = [&](const std::byte* field) {
    for (const Region& region : regions) {
      if (field >= region.begin && field + sizeof(void*) <= region.begin + region.bytes) {
        return region.position + static_cast<uint32_t>(field - region.begin);
      }
    }
    throw std::invalid_argument(
        concat(name, ": a declared pointer is not a field of the arguments"));
  };
  for (size_t i = 0; i < pending_tables_.size(); ++i) {
    table_fields.push_back({position_of(pending_tables_[i].field), regions[i + 1].position});
  }
  for (const Pending& pointer : pending_) {
    accesses.push_back({pointer.ref, position_of(pointer.field), pointer.access});
  }
  pending_.clear();
  pending_tables_.clear();
  RawLaunch launch{function,
                   name,
                   node_,
                   regions[0].position,
                   static_cast<uint32_t>(bytes),
                   first_access,
                   static_cast<uint32_t>(accesses.size()) - first_access,
                   info,
                   Control::none};
  launches.push_back(launch);
}

// Every result has bytes that a launch writes, or is a view, or has none: what is left out would be
// what lay in memory before.
void Lowering::check_written(const NodeRecord& node, size_t first_launch) const {
  for (int output : node.outputs) {
    const bool is_view = parent[static_cast<size_t>(output)] >= 0 && !program.is_placed(output);
    if (bytes(output) == 0 || is_view) continue;
    bool is_written = false;
    for (size_t i = first_launch; i < launches.size() && !is_written; ++i) {
      for (uint32_t k = 0; k < launches[i].num_accesses && !is_written; ++k) {
        const Access& access = accesses[launches[i].first_access + k];
        is_written = access.ref.kind == Ref::Kind::value && access.ref.id == output &&
                     (access.access & Access::kWrite) != 0;
      }
    }
    require(is_written, node.kernel, ": no launch writes the result");
  }
}

// Lets a launch of the node at hand be a pack launch only if it writes one workspace, as no other
// launch does, from one constant, or variable that the program does not write.
void Lowering::keep_packed(size_t first_launch) {
  for (size_t i = first_launch; i < launches.size(); ++i) {
    RawLaunch& launch = launches[i];
    const std::span<const Access> touched(accesses.data() + launch.first_access,
                                          launch.num_accesses);
    int reads = 0, writes = 0;
    for (const Access& access : touched) {
      reads += access.access == Access::kRead && access.ref.kind == Ref::Kind::value &&
               is_stable(access.ref.id);
      writes += access.access == Access::kWrite && access.ref.kind == Ref::Kind::workspace;
    }
    launch.info.pack = launch.info.pack && reads == 1 && writes == 1 && touched.size() == 2;
    for (const Access& access : touched) {
      if (access.ref.kind != Ref::Kind::workspace || access.access == Access::kRead) continue;
      Workspace& workspace = workspaces[static_cast<size_t>(access.ref.id)];
      require(!workspace.packed, launch.name, ": writes what a pack launch keeps");
      workspace.packed = launch.info.pack;
    }
  }
}

std::span<const int64_t> Lowering::values_of(const Attr& attr) const {
  if (attr.type != Attr::Type::expressions) return attr.ints;
  std::vector<int64_t>& values = resolved_.emplace_back();
  for (int i : attr.expressions) values.push_back(expressions[static_cast<size_t>(i)]);
  return values;
}

int64_t Lowering::bytes_of(const Ref& ref) const {
  switch (ref.kind) {
    case Ref::Kind::value:
      return bytes(ref.id) - ref.offset;
    case Ref::Kind::workspace:
      return workspaces[static_cast<size_t>(ref.id)].bytes - ref.offset;
    case Ref::Kind::output:
      return bytes(program.outputs[static_cast<size_t>(ref.id)]) - ref.offset;
    case Ref::Kind::variable:
      return bytes(program.variables[static_cast<size_t>(ref.id)]) - ref.offset;
    case Ref::Kind::guard:
      return static_cast<int64_t>(sizeof(GuardResult));
  }
  return 0;
}

bool Lowering::ends_region(const RawLaunch& launch) const {
  const std::span<const Access> touched(accesses.data() + launch.first_access, launch.num_accesses);
  return launch.function == nullptr ||
         std::any_of(touched.begin(), touched.end(),
                     [](const Access& access) { return access.ref.kind == Ref::Kind::guard; });
}

void Lowering::add_copy(const Ref& from, const Ref& to, int64_t size) {
  CopyArgs args{nullptr, nullptr, size};
  pending_.push_back({reinterpret_cast<const std::byte*>(&args.from), from, Access::kRead});
  pending_.push_back({reinterpret_cast<const std::byte*>(&args.to), to, Access::kWrite});
  finish_launch(copy_blocks, "copy", &args, sizeof(args),
                {.blocks = (size + kCopyBlock - 1) / kCopyBlock});
  if (size > 0) launches.back().is_copy = true;
}

}  // namespace handmill
