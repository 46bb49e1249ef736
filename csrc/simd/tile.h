// Register tiles of matmul and its cuts of K, which decide bits: one table for the planner (all
// levels) and one constant for the kernels (their own level), for each type of numbers. What
// decides speed alone is in core/tuning.
#pragma once

namespace handmill {

struct MatmulTile {
  int width;        // floats in a vector
  int rows;         // rows of the register tile of panels `vectors` wide
  int vectors;      // vectors of a panel
  int narrow_rows;  // rows of the register tile of panels of one or two vectors
  int row_vectors;  // vectors of a panel when M == 1
  int few_rows;     // rows and vectors of the taller tile for few rows of C; 0: there is none
  int few_vectors;
  int kc;  // usual chunk of K: a panel of B stays in L2, a row tile of A in L1; 0: K is not cut
};

// By level, whose names these are.
struct MatmulTiles {
  MatmulTile portable, avx2, avx512, avx512_bf16;
};

// Measured on Zen 4, one core, 192 x 512 x 256, B packed, share of the FMA peak (2026-11):
//   avx512: 6x64 99.5 %, 8x48 99.6 %, 12x32 99.6 %, 14x32 99.5 %. 6x64 needs the fewest row
//   pointers, so that A is read in place, and what remains of it is good too: 5x64 99.7 %,
//   4x64 99.7 %. avx2: 6x16 98.5 %, 4x24 98.9 %, 3x32 98 %, 5x16 94 %, 6x8 74 % (latency). 4x24
//   reads A less often, which gains 2 % from 256^3 on; 6x16 gains 6 % where N is at most 16 (or 32,
//   in two panels). kc: 64 97 %, 128 98 %, 256 99.5 %, 512 99 % (avx2: 98, 98.5, 98.5, 84 to 97 %).
// Sapphire Rapids, 168 x 192 x 256: 6x64 99 %, 8x48 98.8 %, 12x32 94 %, 14x32 94 %, 4x64 98.6 %;
//   kc 128 to 512 within 1 %.
inline constexpr MatmulTiles kFloat32Tiles = {.portable = {4, 4, 2, 4, 4, 0, 0, 256},
                                              .avx2 = {8, 4, 3, 6, 8, 0, 0, 256},
                                              .avx512 = {16, 6, 4, 6, 8, 8, 3, 256},
                                              .avx512_bf16 = {16, 6, 4, 6, 8, 8, 3, 256}};

// bfloat16: with the instruction 24 accumulators, 4 vectors of B, and A broadcast from memory.
// Without it a vector of pairs takes two registers, and so does a pair of A.
inline constexpr MatmulTiles kBfloat16Tiles = {.portable = {4, 4, 2, 4, 2, 0, 0, 0},
                                               .avx2 = {8, 4, 2, 4, 2, 0, 0, 0},
                                               .avx512 = {16, 6, 3, 6, 3, 0, 0, 0},
                                               .avx512_bf16 = {16, 6, 4, 6, 4, 0, 0, 0}};

#ifdef HM_ISA
namespace HM_ISA {
constexpr MatmulTile kMatmulTile = kFloat32Tiles.HM_ISA;
constexpr MatmulTile kBf16Tile = kBfloat16Tiles.HM_ISA;
}  // namespace HM_ISA
#endif

}  // namespace handmill
