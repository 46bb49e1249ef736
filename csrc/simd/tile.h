// Register and cache tiles of matmul: the only tuning constants of the family. One table for the
// planner (all levels) and one constant for the kernels (their own level).
#pragma once

namespace handmill {

struct MatmulTile {
  int width;                // floats in a vector
  int rows;                 // rows of the register tile of panels `vectors` wide
  int vectors;              // vectors of a panel
  int narrow_rows;          // rows of the register tile of panels of one or two vectors
  int row_vectors;          // vectors of a panel when M == 1
  int long_row;             // M == 1: floats in a row of B from which B is read along its rows
  int copy_rows;            // fewer rows of C than this read B in place
  int copy_aliasing_rows;   // the same where the rows of B fall into the same sets of L1
  int kc;                   // usual chunk of K: a panel of B stays in L2, a row tile of A in L1
  int block_rows;           // of C: kc columns of them in A stay in L2 with a panel of B
  int tall_block_rows;      // the same where M >= kTallRows
  bool fetches_next_panel;  // of a packed B, while the panel before it is used
  bool copies_tall_aliasing_rows;  // of A, whole pages apart, where M >= kTallRows
};

// Measured on Zen 4, one core, 192 x 512 x 256, B packed, share of the FMA peak (2026-11):
//   avx512: 6x64 99.5 %, 8x48 99.6 %, 12x32 99.6 %, 14x32 99.5 %. 6x64 needs the fewest row
//   pointers, so that A is read in place, and what remains of it is good too: 5x64 99.7 %,
//   4x64 99.7 %. avx2: 6x16 98.5 %, 4x24 98.9 %, 3x32 98 %, 5x16 94 %, 6x8 74 % (latency). 4x24
//   reads A less often, which gains 2 % from 256^3 on; 6x16 gains 6 % where N is at most 16 (or 32,
//   in two panels). kc: 64 97 %, 128 98 %, 256 99.5 %, 512 99 % (avx2: 98, 98.5, 98.5, 84 to 97 %).
// long_row: 1 x 512 x 784 by panels 22.3 us (avx2 23.8), by rows 20.1 (19.1); 1 x 1024 x 1024 at
//   avx512 69.8 and 56.5.
// copy_rows: 16 x 512 x 784 avx2 158 us in place, 145 copied; 12 rows 122, 123; 48 rows avx512 333,
// 346. copy_aliasing_rows: 24 x 1024 x 1024 avx512 550 us in place, 485 copied; 16 rows 296, 341.
// tall_block_rows: 4096^3 89.1 % with 192, 91.2 % with 384; 1056 x 264 x 1056 avx2 92.9 and 89.1 %.
// fetches_next_panel: 2048^3 avx2 88.4 -> 91.6 %, 4096^3 84.2 -> 86.7 %; avx512 no gain.
// copies_tall_aliasing_rows: 4096^3 avx2 86.7 -> 89.6 %, 2048^3 no change; avx512 91.7 -> 89.3 %.
constexpr int kTallRows = 2048;
constexpr MatmulTile kMatmulTilePortable = {4,  4,   2,   4,   4,     1024, 64,
                                            24, 256, 192, 192, false, false};
constexpr MatmulTile kMatmulTileAvx2 = {8, 4, 3, 6, 8, 512, 16, 16, 256, 192, 384, true, true};
constexpr MatmulTile kMatmulTileAvx512 = {16, 6, 4, 6, 8, 512, 64, 24, 256, 192, 384, false, false};

#ifdef HM_ISA
namespace HM_ISA {
#if defined(HM_ISA_AVX512)
constexpr MatmulTile kMatmulTile = kMatmulTileAvx512;
#elif defined(HM_ISA_AVX2)
constexpr MatmulTile kMatmulTile = kMatmulTileAvx2;
#else
constexpr MatmulTile kMatmulTile = kMatmulTilePortable;
#endif
}  // namespace HM_ISA
#endif

}  // namespace handmill
