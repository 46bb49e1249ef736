// Where the values and workspaces of a specialisation lie.
#pragma once

#include <vector>

#include "core/lower/lowering.h"

namespace handmill {

struct Layout {
  std::vector<Location> values;
  std::vector<Location> workspaces;
  int64_t arena_bytes = 0;
  std::vector<int64_t> packed_bytes;  // of each copy that a pack launch makes
  int64_t lower_bound = 0;            // of arena_bytes

  Location locate(const Lowering& lowering, const Ref& ref) const;
};

/// Decides where everything lies, and appends the copies that end the program: to outputs and to
/// variables that could not be computed in place.
///
/// A new value of a variable is computed in the variable's own memory if nobody reads the old one
/// after that (a reader that is the same node must offer it as an alias), and if no guard or host
/// launch, which may end the run, comes later.
Layout lay_out(Lowering& lowering);

/// For each launch, whether a barrier must stand before it: a launch touches what a launch of other
/// threads has written since the last barrier, or writes what one has read. Launches of one block
/// all run on the first thread. Host nodes, guards and launches that control others end a region
/// and count as barriers.
std::vector<bool> find_barriers(const Lowering& lowering, const Layout& layout,
                                const std::vector<int>& order);

/// What a launch moves between the cores and memory, in bytes. Memory that several of its operands
/// share counts once.
struct Traffic {
  double read = 0, written = 0;
  double in_place = 0;  // read and written in the same place; part of both
};

Traffic count_traffic(const Lowering& lowering, const Layout& layout, const RawLaunch& launch);

}  // namespace handmill
