// What decides speed alone, by CPU family. What decides bits (cuts of K, slices, dot products)
// belongs to the level, so that every tuning gives the same numbers (tests/core/test_tuning.py).
#pragma once

#include <span>
#include <string_view>

#include "core/cpu.h"

namespace handmill {

/// How a matrix product reads its operands and cuts them into blocks.
struct MatmulTuning {
  int long_row;             // M == 1: floats in a row of B from which B is read along its rows
  int copy_rows;            // fewer rows of C than this read B in place
  int copy_aliasing_rows;   // the same where the rows of B fall into the same sets of L1
  int block_rows;           // of C: kc columns of them in A stay in L2 with a panel of B
  int tall_block_rows;      // the same where M >= kTallRows
  int rows_ahead;           // rows of B that the first row tile of a panel fetches while it copies
  bool fetches_in_place;    // B read in place is fetched as far ahead
  bool fetches_next_panel;  // of a packed B, while the panel before it is used
  bool copies_tall_aliasing_rows;  // of A, whole pages apart, where M >= kTallRows
  // With an update, columns of C of a block, at least: so that no thread fetches ahead what another
  // writes beside it.
  int update_columns;
  // Up to so many rows of C, taller register tiles (MatmulTile::few_rows) where they pass over B
  // less often.
  int few_rows;
  int few_rows_of_large;  // the same where B is large
  bool tall_narrow;       // such tiles for panels of one or two vectors, whatever the rows
};

/// What threads cost, in floating-point operations (core/work.h).
struct ThreadTuning {
  double per_thread, per_barrier;
  double per_call, per_step;  // of a region of its own: for a call, for one that updates variables
};

struct Tuning {
  std::string_view name;
  std::string_view cpus;
  MatmulTuning portable, avx2, avx512;
  ThreadTuning threads;

  const MatmulTuning& matmul(Isa isa) const;
};

/// All of them.
std::span<const Tuning> tunings();

/// That of this CPU.
const Tuning& detected_tuning();

/// That of new plans: this CPU's, unless set_tuning chose another.
const Tuning& current_tuning();

/// Throws std::runtime_error, which lists the names, if there is none of that name.
void set_tuning(std::string_view name);

}  // namespace handmill
