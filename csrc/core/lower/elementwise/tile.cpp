#include "core/lower/elementwise/tile.h"

#include <algorithm>

#include "core/check.h"
#include "core/lower/blocks.h"
#include "core/lower/builder.h"
#include "core/lower/reduce/reduce.h"

namespace handmill {
namespace {

// Memory traffic of a block: enough to outweigh handing it to a thread (about 0.1 us), small enough
// that middle-sized tensors make several blocks and that inputs and outputs share L2.
constexpr int64_t kBlockBytes = 48 * 1024;
// Of a program that adds up columns, a block is large enough to outweigh its sums and small enough
// for several threads; the sums of a block are added one tile after the other, which loses little.
constexpr int64_t kLeastSummedElements = 4096, kMostSummedElements = 128 * 1024;
constexpr int64_t kSummedBlocks = 64;
// Blocks of a single row are cut at multiples of this, so that threads share few cache lines.
constexpr int64_t kBlockQuantum = 64;

constexpr TileOpInfo kTileOps[] = {
#define HM_TILE_OP(name, inputs, immediates, types) {#name, inputs, immediates, #types, -1},
#define HM_TILE_CONVERSION(name, type) {#name, 1, 0, "FDI", static_cast<int>(TileType::type)},
#include "kernels/elementwise/tile_ops.def"
#undef HM_TILE_OP
};

/// Strides of an operand in the dimensions of `shape`, 0 where it repeats.
std::vector<int64_t> broadcast_strides(const TileShape& operand, std::span<const int64_t> shape) {
  const size_t rank = operand.shape.size();
  require(rank <= shape.size(), "an operand of rank ", rank,
          " does not broadcast to a shape of rank ", shape.size());
  require(operand.strides.empty() || operand.strides.size() == rank, "an operand of rank ", rank,
          " has ", operand.strides.size(), " strides");
  std::vector<int64_t> strides(shape.size(), 0);
  int64_t dense = 1;
  for (size_t i = rank; i-- > 0;) {
    const size_t d = shape.size() - rank + i;
    require(operand.shape[i] == shape[d] || operand.shape[i] == 1, "extent ", operand.shape[i],
            " of an operand does not broadcast to ", shape[d], " in dimension ", d);
    if (operand.shape[i] != 1) strides[d] = operand.strides.empty() ? dense : operand.strides[i];
    dense *= operand.shape[i];
  }
  return strides;
}

int64_t block_elements(const TilePlan& plan, std::span<const TileShape> operands, int64_t total) {
  double bytes = 0;  // of one element of the iteration space, shared out where operands repeat
  for (const TileShape& operand : operands) {
    int64_t size = 1;
    for (int64_t extent : operand.shape) size *= extent;
    bytes += static_cast<double>(size * dtype_bytes(operand.dtype)) / static_cast<double>(total);
  }
  const int64_t cols = plan.dims[3];
  int64_t quantum = kBlockQuantum;
  if (cols < kTileElements) quantum = std::max<int64_t>(kBlockQuantum / cols, 1) * cols;
  const int64_t target = std::max(
      static_cast<int64_t>(static_cast<double>(kBlockBytes) / std::max(bytes, 1.0)), kTileElements);
  const int64_t count = ceil_div(total, std::max(target / quantum, int64_t{1}) * quantum);
  const int64_t block = round_up(ceil_div(total, count), quantum);
  // Long rows: whole ones where several fit into a block.
  return cols >= kTileElements && block > cols ? block / cols * cols : block;
}

}  // namespace

void TilePlan::apply(std::span<const TileShape> operands, TileArgs* args) const {
  std::copy(dims.begin(), dims.end(), args->dims);
  for (size_t i = 0; i < operands.size(); ++i) {
    std::copy(strides[i].begin(), strides[i].end(), args->operands[i].strides);
    args->operands[i].dtype = operands[i].dtype;
    args->operands[i].type = operands[i].type;
  }
  args->block = block;
  args->element_bytes = element_bytes;
}

TilePlan plan_tile(std::span<const int64_t> shape, std::span<const TileShape> operands, int n_temps,
                   int element_bytes) {
  require(operands.size() <= kMaxTileOperands, "a tile program takes at most ", kMaxTileOperands,
          " operands, not ", operands.size());
  std::vector<std::vector<int64_t>> full;
  for (const TileShape& operand : operands) full.push_back(broadcast_strides(operand, shape));

  // Collapsed dimensions, innermost first. A dimension joins the one inside it if every operand
  // steps from one to the other without a gap.
  std::vector<int64_t> dims;
  std::vector<std::vector<int64_t>> strides(operands.size());
  int64_t total = 1;
  for (size_t d = shape.size(); d-- > 0;) {
    total *= shape[d];
    if (shape[d] == 1) continue;
    bool joins = !dims.empty();
    for (size_t i = 0; i < operands.size() && joins; ++i) {
      joins = full[i][d] == strides[i].back() * dims.back();
    }
    if (joins) {
      dims.back() *= shape[d];
      continue;
    }
    dims.push_back(shape[d]);
    for (size_t i = 0; i < operands.size(); ++i) strides[i].push_back(full[i][d]);
  }

  TilePlan plan;
  plan.dims.fill(1);
  plan.strides.assign(operands.size(), {});
  if (total == 0) {
    plan.ok = true;
    plan.dims[3] = 0;
    return plan;
  }
  if (dims.size() > plan.dims.size()) return plan;
  plan.ok = true;
  for (size_t d = 0; d < dims.size(); ++d) {
    plan.dims[3 - d] = dims[d];
    for (size_t i = 0; i < operands.size(); ++i) plan.strides[i][3 - d] = strides[i][d];
  }
  plan.block = block_elements(plan, operands, total);
  plan.block_count = ceil_div(total, plan.block);
  plan.element_bytes = element_bytes;
  plan.scratch_bytes =
      element_bytes * kTileBufferStride * (static_cast<int64_t>(operands.size()) + n_temps);
  return plan;
}

bool travels_as(Dtype dtype, TileType type) {
  switch (dtype) {
    case Dtype::float32:
    case Dtype::bfloat16:
      return type == TileType::f32;
    case Dtype::float64:
      return type == TileType::f64;
    case Dtype::int8:
    case Dtype::uint8:
    case Dtype::int32:
      return type == TileType::i32;
    case Dtype::int64:
      return type == TileType::i64;
    case Dtype::bool_:
      return true;
  }
  return false;
}

int check_tile_program(std::span<const TileInstr> instrs, std::span<const TileType> types,
                       int n_inputs, int n_temps) {
  constexpr int kUnwritten = -1;
  const int n_operands = static_cast<int>(types.size());
  require(n_inputs >= 0 && n_inputs <= n_operands && n_operands <= kMaxTileOperands &&
              n_temps >= 0 && n_temps <= kMaxTileTemps,
          "a tile program has at most ", kMaxTileOperands, " operands and ", kMaxTileTemps,
          " temporaries, not ", n_operands, " and ", n_temps);
  std::vector<int> held(static_cast<size_t>(n_operands + n_temps), kUnwritten);  // TileType
  int64_t widest = 4;
  const auto is_type = [](TileType type) {
    return type >= TileType{} && static_cast<int>(type) < kTileTypes;
  };
  for (int i = 0; i < n_operands; ++i) {
    const TileType type = types[static_cast<size_t>(i)];
    require(is_type(type), "operand ", i, " has the unknown type ", static_cast<int>(type));
    if (i < n_inputs) held[static_cast<size_t>(i)] = static_cast<int>(type);
    widest = std::max(widest, tile_type_bytes(type));
  }
  for (size_t i = 0; i < instrs.size(); ++i) {
    const TileInstr& instr = instrs[i];
    require(instr.op >= TileOp{} && instr.op < TileOp::count, "tile instruction ", i,
            " has the unknown op ", static_cast<int>(instr.op));
    const TileOpInfo& info = kTileOps[static_cast<size_t>(instr.op)];
    require(is_type(instr.type) && info.computes_in(instr.type), "tile instruction ", i, " (",
            info.name, ") does not compute in type ", static_cast<int>(instr.type));
    const int16_t sources[] = {instr.a, instr.b, instr.c};
    for (int s = 0; s < 3; ++s) {
      const int16_t source = sources[s];
      require(source >= 0 && static_cast<size_t>(source) < held.size(), "tile instruction ", i,
              " (", info.name, ") names register ", source, ", of ", held.size());
      if (s >= info.inputs) continue;
      const int type = held[static_cast<size_t>(source)];
      require(type != kUnwritten, "tile instruction ", i, " (", info.name, ") reads register ",
              source, " before it is written");
      require(type == static_cast<int>(instr.type), "tile instruction ", i, " (", info.name,
              ") reads register ", source, " of another type");
    }
    require(instr.dst >= n_inputs && static_cast<size_t>(instr.dst) < held.size(),
            "tile instruction ", i, " (", info.name, ") cannot write register ", instr.dst);
    const int result = info.result >= 0 ? info.result : static_cast<int>(instr.type);
    held[static_cast<size_t>(instr.dst)] = result;
    widest = std::max(widest, tile_type_bytes(static_cast<TileType>(result)));
  }
  for (int i = n_inputs; i < n_operands; ++i) {
    require(held[static_cast<size_t>(i)] == static_cast<int>(types[static_cast<size_t>(i)]),
            "output register ", i, " is never written in its type");
  }
  return static_cast<int>(widest);
}

std::span<const TileOpInfo> tile_op_infos() { return kTileOps; }

namespace {

std::vector<TileInstr> read_instrs(const NodeView& node) {
  constexpr size_t kFields = 6;  // op, type, dst, a, b, c
  const std::span<const int64_t> fields = node.ints("instrs");
  const std::span<const double> imms = node.floats("imms");
  const size_t count = fields.size() / kFields;
  require(fields.size() == count * kFields && imms.size() == 2 * count, "a tile program of ", count,
          " instructions has ", fields.size(), " fields and ", imms.size(), " immediates");
  std::vector<TileInstr> instrs;
  for (size_t i = 0; i < count; ++i) {
    int16_t field[kFields];
    for (size_t k = 0; k < kFields; ++k) {
      field[k] = static_cast<int16_t>(fields[i * kFields + k]);
      require(field[k] == fields[i * kFields + k], "tile instruction ", i, " has the field ",
              fields[i * kFields + k]);
    }
    instrs.push_back({static_cast<TileOp>(field[0]), static_cast<TileType>(field[1]), field[2],
                      field[3], field[4], field[5], imms[2 * i], imms[2 * i + 1]});
  }
  return instrs;
}

/// A tile program over a part of its operands.
struct TileLowering {
  LaunchWriter& writer;
  std::span<const TileInstr> instrs;
  int n_inputs, n_temps, element_bytes;

  void add(std::span<const int64_t> shape, std::span<const TileShape> operands,
           std::span<const Ref> places) {
    const TilePlan plan = plan_tile(shape, operands, n_temps, element_bytes);
    if (!plan.ok) return add_slices(shape, operands, places);
    TileArgs args{};
    bind(args, plan, operands, places);
    writer.add<Kernel::tile_program>(args, info(plan, shape));
  }

  /// Also adds up the columns of some registers, each to a place of its own.
  void add_with_sums(std::span<const int64_t> shape, std::vector<TileShape> operands,
                     std::span<const Ref> places, std::span<const int64_t> registers,
                     std::span<const Ref> sums) {
    require(!shape.empty() && registers.size() <= kMaxTileSums,
            "a tile program adds up columns of at most ", kMaxTileSums, " registers");
    const int64_t C = shape.back();
    int64_t total = 1;
    for (int64_t extent : shape) total *= extent;
    if (C == 0) return;
    operands.push_back({Dtype::float32, {C}, {}, TileType::f32});  // columns stay columns
    TilePlan plan = plan_tile(shape, operands, n_temps, element_bytes);
    operands.pop_back();
    require(plan.ok, "a tile program that adds up columns has operands of too many shapes");
    const int64_t target =
        std::clamp(ceil_div(total, kSummedBlocks), kLeastSummedElements, kMostSummedElements);
    plan.block = ceil_div(target, C) * C;
    plan.block_count = ceil_div(total, plan.block);
    TileSumsArgs args{};
    args.N = side_by_side_columns(C);
    args.n_sums = static_cast<int32_t>(registers.size());
    bind(args.tile, plan, operands, places);
    std::vector<Ref> partials;
    for (size_t s = 0; s < registers.size(); ++s) {
      args.registers[s] = static_cast<int16_t>(registers[s]);
      partials.push_back(writer.workspace(std::max<int64_t>(plan.block_count, 1) * args.N *
                                          static_cast<int64_t>(sizeof(float))));
      writer.write(&args.sums[s], partials[s]);
    }
    LaunchInfo launch = info(plan, shape);
    launch.flops += static_cast<double>(total) * static_cast<double>(registers.size());
    writer.add<Kernel::tile_sums>(args, launch);
    for (size_t s = 0; s < registers.size(); ++s) {
      add_column_sums(writer, partials[s], sums[s], plan.block_count * (args.N / C), C);
    }
  }

 private:
  void bind(TileArgs& args, const TilePlan& plan, std::span<const TileShape> operands,
            std::span<const Ref> places) {
    args.n_instrs = static_cast<int32_t>(instrs.size());
    args.n_inputs = n_inputs;
    args.n_outputs = static_cast<int32_t>(operands.size()) - n_inputs;
    args.n_temps = n_temps;
    plan.apply(operands, &args);
    writer.table(&args.instrs, instrs);
    for (size_t i = 0; i < operands.size(); ++i) {
      if (static_cast<int>(i) < n_inputs) {
        writer.read(&args.operands[i].ptr, places[i]);
      } else {
        writer.write(&args.operands[i].ptr, places[i]);
      }
    }
  }

  LaunchInfo info(const TilePlan& plan, std::span<const int64_t> shape) const {
    double size = 1;
    for (int64_t extent : shape) size *= static_cast<double>(extent);
    return {.blocks = plan.block_count,
            .scratch = plan.scratch_bytes,
            .flops = size * static_cast<double>(instrs.size())};
  }

  /// Too many dimensions for the kernel: one launch for each index of the first.
  void add_slices(std::span<const int64_t> shape, std::span<const TileShape> operands,
                  std::span<const Ref> places) {
    std::vector<TileShape> inner(operands.begin(), operands.end());
    std::vector<int64_t> strides(operands.size(), 0);  // of the first dimension, in bytes
    for (size_t i = 0; i < operands.size(); ++i) {
      if (operands[i].shape.size() < shape.size()) continue;
      int64_t dense = 1;
      inner[i].shape.erase(inner[i].shape.begin());
      for (int64_t extent : inner[i].shape) dense *= extent;
      if (operands[i].shape[0] != 1) strides[i] = dense * dtype_bytes(operands[i].dtype);
    }
    for (int64_t index = 0; index < shape[0]; ++index) {
      std::vector<Ref> moved;
      for (size_t i = 0; i < places.size(); ++i) {
        moved.push_back(places[i].at(index * strides[i], strides[i] > 0 ? strides[i] : -1));
      }
      add(shape.subspan(1), inner, moved);
    }
  }
};

// Whether an output may take the memory of an input: nothing reads the input after the first
// instruction that writes the output.
bool is_read_before(std::span<const TileInstr> instrs, int input, int output) {
  bool is_written = false;
  for (const TileInstr& instr : instrs) {
    const int16_t sources[] = {instr.a, instr.b, instr.c};
    const int count = kTileOps[static_cast<size_t>(instr.op)].inputs;
    for (int s = 0; s < count; ++s) {
      if (is_written && sources[s] == input) return false;
    }
    is_written = is_written || instr.dst == output;
  }
  return true;
}

// The iteration space: that of the outputs, or of the inputs where all results are sums.
std::vector<int64_t> tile_shape(const NodeView& node, int n_outputs) {
  if (n_outputs > 0) {
    const ValueView first = node.output(0);
    return {first.shape.begin(), first.shape.end()};
  }
  std::vector<int64_t> shape;
  for (int i = 0; i < node.num_inputs(); ++i) {
    const ValueView x = node.input(i);
    shape.resize(std::max(shape.size(), x.shape.size()), 1);
    for (size_t d = 0; d < x.shape.size(); ++d) {
      int64_t& extent = shape[shape.size() - x.shape.size() + d];
      if (x.shape[d] != 1) extent = x.shape[d];
    }
  }
  return shape;
}

}  // namespace

// inputs -> outputs, all of the shape of the first output after broadcasting, then sums of columns.
// types: the TileType of each but the sums. instrs: op, type, dst, a, b, c of every instruction;
// imms: its two immediates; n_temps. sums, where there are some: their registers.
void lower_tile(const NodeView& node, LaunchWriter& writer) {
  const std::vector<TileInstr> instrs = read_instrs(node);
  const std::span<const int64_t> sums =
      node.has("sums") ? node.ints("sums") : std::span<const int64_t>();
  const int n_inputs = node.num_inputs();
  const int n_outputs = node.num_outputs() - static_cast<int>(sums.size());
  const int n_temps = static_cast<int>(node.i64("n_temps"));
  std::vector<TileType> types;
  for (int64_t type : node.ints("types")) types.push_back(static_cast<TileType>(type));
  require(static_cast<int>(types.size()) == n_inputs + n_outputs, "a tile program of ",
          n_inputs + n_outputs, " operands has ", types.size(), " types");
  const int element_bytes = check_tile_program(instrs, types, n_inputs, n_temps);

  const std::vector<int64_t> shape = tile_shape(node, n_outputs);
  std::vector<TileShape> operands;
  std::vector<Ref> places;
  for (int i = 0; i < n_inputs + n_outputs; ++i) {
    const ValueView value = i < n_inputs ? node.input(i) : node.output(i - n_inputs);
    const TileType type = types[static_cast<size_t>(i)];
    require(travels_as(value.dtype, type), "operand ", i, " of a tile program, ",
            dtype_name(value.dtype), ", cannot have the type ", static_cast<int>(type));
    operands.push_back({value.dtype, {value.shape.begin(), value.shape.end()}, {}, type});
    places.emplace_back(value);
    require(i < n_inputs || operands.back().shape == shape, "output ", i - n_inputs,
            " of a tile program differs in shape from the first");
  }
  for (int64_t sum : sums) {
    require(sum >= 0 && sum < n_inputs + n_outputs + n_temps, "no register ", sum,
            " of a tile program to add up");
  }
  for (int o = n_inputs; o < n_inputs + n_outputs; ++o) {
    for (int i = 0; i < n_inputs; ++i) {
      const TileShape &in = operands[static_cast<size_t>(i)],
                      &out = operands[static_cast<size_t>(o)];
      if (in.dtype == out.dtype && in.shape == out.shape && is_read_before(instrs, i, o) &&
          std::find(sums.begin(), sums.end(), i) == sums.end()) {
        writer.may_overwrite(o - n_inputs, i);
      }
    }
  }
  TileLowering lowering{writer, instrs, n_inputs, n_temps, element_bytes};
  if (sums.empty()) return lowering.add(shape, operands, places);
  std::vector<Ref> targets;
  for (int i = n_outputs; i < node.num_outputs(); ++i) targets.emplace_back(node.output(i));
  lowering.add_with_sums(shape, operands, places, sums, targets);
}

}  // namespace handmill
