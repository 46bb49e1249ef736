// Register tiles of the bfloat16 matmul: one table for the planner (all levels) and one constant
// for the kernels (their own level).
#pragma once

namespace handmill {

struct Bf16Tile {
  int width;    // floats in a vector
  int rows;     // rows of the register tile
  int vectors;  // vectors of a panel
};

// With the instruction 24 accumulators, 4 vectors of B, and A broadcast from memory. Without it a
// vector of pairs takes two registers, and so does a pair of A.
constexpr Bf16Tile kBf16TilePortable = {4, 4, 2};
constexpr Bf16Tile kBf16TileAvx2 = {8, 4, 2};
constexpr Bf16Tile kBf16TileAvx512 = {16, 6, 3};
constexpr Bf16Tile kBf16TileAvx512Bf16 = {16, 6, 4};

#ifdef HM_ISA
namespace HM_ISA {
#if defined(HM_ISA_AVX512_BF16)
constexpr Bf16Tile kBf16Tile = kBf16TileAvx512Bf16;
#elif defined(HM_ISA_AVX512)
constexpr Bf16Tile kBf16Tile = kBf16TileAvx512;
#elif defined(HM_ISA_AVX2)
constexpr Bf16Tile kBf16Tile = kBf16TileAvx2;
#else
constexpr Bf16Tile kBf16Tile = kBf16TilePortable;
#endif
}  // namespace HM_ISA
#endif

}  // namespace handmill
