// What other families need of reductions.
#pragma once

#include "core/lower/builder.h"

namespace handmill {

/// Columns that are put side by side, so that few of them fill whole vectors: `columns` itself or a
/// multiple of it.
int64_t side_by_side_columns(int64_t columns);

/// Adds a launch: y[c] = the sum of partials[p, c], float32, over the `parts` rows of `columns`.
void add_column_sums(LaunchWriter& writer, const Ref& partials, const Ref& y, int64_t parts,
                     int64_t columns);

}  // namespace handmill
