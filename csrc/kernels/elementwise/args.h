// Arguments of the elementwise family: tile programs. Plain aggregates.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace handmill {

// Elements of a tile, the unit that one instruction works on: 4 KB of float32, so that the handful
// of registers of a usual program stay in L1. Measured on Zen 4, relu(x * y + z) of 1 M floats,
// AVX2: 512 0.202, 1024 0.195, 2048 0.254 ns per element.
constexpr int64_t kTileElements = 1024;
// Elements from one tile buffer in scratch to the next: not a multiple of 4 KB, or all buffers
// would compete for the same ways of L1.
constexpr int64_t kTileBufferStride = kTileElements + 32;

constexpr int kMaxTileOperands = 16;
constexpr int kMaxTileTemps = 32;

enum class TileOp : int16_t {
#define HM_TILE_OP(name, inputs, immediates, types) name,
#include "kernels/elementwise/tile_ops.def"
#undef HM_TILE_OP
  count
};

/// The type that an instruction computes in, and that the elements of a register have. bool, int8
/// and uint8 travel as another: bool as any, the others as i32; bfloat16 as f32.
enum class TileType : int16_t { f32, f64, i32, i64 };
constexpr int kTileTypes = 4;

constexpr int64_t tile_type_bytes(TileType type) {
  return type == TileType::f32 || type == TileType::i32 ? 4 : 8;
}

/// dst = op(a, b, c; imm0, imm1) on registers of `type` (dst of another, if op is a conversion).
/// Registers 0 .. n_inputs - 1 are the inputs, then come the outputs, then the temporaries. Inputs
/// are read only. A register that the op does not have is ignored, but must exist.
struct TileInstr {
  TileOp op;
  TileType type;
  int16_t dst, a, b, c;
  double imm0, imm1;
};

/// A tensor as the iteration space sees it: element [i0, i1, i2, i3] is at sum_d i_d * strides[d].
/// Inputs are converted to `type` when read, outputs from it when written (bool: != 0; int8, uint8:
/// the low bits). Strides of an input may be 0; those of an output must give every element
/// a place of its own.
struct TileOperand {
  void* ptr;
  int64_t strides[4];
  Dtype dtype;
  TileType type;
};

/// A chain of elementwise operations, run tile by tile over the row-major iteration space `dims`
/// (innermost last; fewer dimensions are padded with 1 in front). Block i covers elements
/// [i * block, (i + 1) * block) of the flattened space; where dims[3] < kTileElements, block is a
/// multiple of dims[3]. core/lower/elementwise/tile.h computes dims, strides and block.
///
/// An output may be the very memory of an input (same pointer, strides and dtype) if no instruction
/// after the first one that writes this output reads that input. No other overlap.
///
/// Scratch: (n_inputs + n_outputs + n_temps) * kTileBufferStride elements of `element_bytes`, the
/// size of the widest type of the program.
struct TileArgs {
  const TileInstr* instrs;
  TileOperand operands[kMaxTileOperands];
  int64_t dims[4];
  int64_t block;
  int32_t n_instrs, n_inputs, n_outputs, n_temps, element_bytes;
};

constexpr int kMaxTileSums = 6;

/// A tile program that also adds up what some of its registers, of float32, hold: the iteration
/// space is rows of C columns, C = dims[3] or 1, and tile.block whole rows of them. sums[s][block,
/// n], n < N, a multiple of C, are sums of the elements of the block at places n (mod C), so that
/// those with n = c (mod C) together are the sum of column c.
struct TileSumsArgs {
  TileArgs tile;
  float* sums[kMaxTileSums];
  int16_t registers[kMaxTileSums];
  int32_t n_sums;
  int64_t N;
};

}  // namespace handmill
