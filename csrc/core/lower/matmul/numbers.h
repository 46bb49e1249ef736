// What the planner of products knows of the numbers that are multiplied. Another type of numbers is
// another MatmulNumbers, its register tiles (simd/tile.h) and its kernels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/cpu.h"
#include "kernels/types.h"
#include "simd/tile.h"

namespace handmill {

/// K is counted in groups: as many numbers as fill a word of four bytes, which is what one lane of
/// an instruction multiplies and adds to a sum of four bytes. Copies of operands consist of words.
struct MatmulNumbers {
  std::span<const Dtype> dtypes;  // of operands and result
  std::string_view dtypes_text;
  const MatmulTiles& tiles;
  int group;  // of K: numbers in a word
  /// Operands are read where they lie, if their strides allow it. Otherwise every block reads
  /// copies, but for rows of A that are groups already (`grouped`, with an even share of K).
  bool reads_in_place;
  Dtype grouped;
  /// FLOP below which a second thread costs more than it gives.
  double one_block_flop;
  /// Blocks that keep a few threads busy, where more of them copy more.
  int64_t enough_blocks;
  /// Slices of K, which decide bits. Least K of a slice and the tile in which C is counted, the
  /// same at every level; 0: two chunks, and the tile of the level.
  int64_t slice_k, slice_rows, slice_columns;
  /// What a block of packing writes: panels where B is read along its rows, words.
  int64_t pack_panels, pack_words;

  bool takes(Dtype dtype) const { return std::ranges::find(dtypes, dtype) != dtypes.end(); }

  const MatmulTile& tile(Isa isa) const {
    switch (isa) {
      case Isa::avx512_bf16:
        return tiles.avx512_bf16;
      case Isa::avx512:
        return tiles.avx512;
      case Isa::avx2:
        return tiles.avx2;
      default:
        return tiles.portable;
    }
  }
};

inline constexpr Dtype kFloat32Operands[] = {Dtype::float32};
inline constexpr MatmulNumbers kFloat32Numbers = {.dtypes = kFloat32Operands,
                                                  .dtypes_text = "float32",
                                                  .tiles = kFloat32Tiles,
                                                  .group = 1,
                                                  .reads_in_place = true,
                                                  .grouped = Dtype::float32,
                                                  .one_block_flop = 0.3e6,
                                                  .enough_blocks = 32,
                                                  .slice_k = 0,
                                                  .slice_rows = 0,
                                                  .slice_columns = 0,
                                                  .pack_panels = 16,
                                                  .pack_words = 65536};

inline constexpr Dtype kBfloat16Operands[] = {Dtype::float32, Dtype::bfloat16};
inline constexpr MatmulNumbers kBfloat16Numbers = {.dtypes = kBfloat16Operands,
                                                   .dtypes_text = "float32 or bfloat16",
                                                   .tiles = kBfloat16Tiles,
                                                   .group = 2,
                                                   .reads_in_place = false,
                                                   .grouped = Dtype::bfloat16,
                                                   .one_block_flop = 0.6e6,
                                                   .enough_blocks = 8,
                                                   .slice_k = 512,
                                                   .slice_rows = 6,
                                                   .slice_columns = 64,
                                                   .pack_panels = 8,
                                                   .pack_words = 8192};

}  // namespace handmill
