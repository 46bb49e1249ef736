// From shapes to the arguments of a tile program: broadcasting, collapsing of dimensions, blocks.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/elementwise/args.h"

namespace handmill {

/// An operand before broadcasting. Strides in elements; empty means dense row-major. An operand of
/// lower rank than the output, or with extent 1 where the output has more, repeats (NumPy rules).
struct TileShape {
  Dtype dtype = Dtype::float32;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;
  TileType type = TileType::f32;
};

struct TilePlan {
  bool ok = false;  // false: more than four dimensions are left after collapsing
  std::array<int64_t, 4> dims{};
  std::vector<std::array<int64_t, 4>> strides;  // of every operand
  int64_t block = 1;
  int64_t block_count = 0;
  int64_t scratch_bytes = 0;
  int32_t element_bytes = 4;

  /// Copies dims, strides and block into `args`, and the dtypes and types of the operands.
  void apply(std::span<const TileShape> operands, TileArgs* args) const;
};

/// Operands: inputs, then outputs, at most kMaxTileOperands. Outputs must have the full `shape`;
/// all of them are iterated over in its row-major order. Depends on shapes and strides alone.
/// Throws std::invalid_argument where an operand does not broadcast to `shape`.
/// element_bytes: of the widest type that a register has.
TilePlan plan_tile(std::span<const int64_t> shape, std::span<const TileShape> operands, int n_temps,
                   int element_bytes);

/// Throws std::invalid_argument unless the program is sound: known ops that compute in the types of
/// their registers, existing registers, no write to an input, no read of an output or temporary
/// before it is written, every output written in its type. `types`: of inputs and outputs. Returns
/// the bytes of the widest type.
int check_tile_program(std::span<const TileInstr> instrs, std::span<const TileType> types,
                       int n_inputs, int n_temps);

struct TileOpInfo {
  std::string_view name;
  int inputs, immediates;
  std::string_view types;  // as in the list: "F", "FD", ...
  int result;              // of a conversion, the TileType of its result; -1: that of the operands

  bool computes_in(TileType type) const {
    const char letters[] = {'F', 'D', 'I', 'I'};
    return types.find(letters[static_cast<int>(type)]) != std::string_view::npos;
  }
};

/// Whether the elements of an array of `dtype` can travel as `type`.
bool travels_as(Dtype dtype, TileType type);

/// The rows of kernels/elementwise/tile_ops.def; the index is the TileOp.
std::span<const TileOpInfo> tile_op_infos();

}  // namespace handmill
