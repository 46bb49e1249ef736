// The most that this machine does, measured: what kernels are compared with.
#pragma once

#include <cstdint>

#include "core/cpu.h"

namespace handmill {

enum class Stream { read, copy, update };

/// Single-precision multiply-adds from registers, in FLOP/s, on `threads` threads of the team for
/// about `seconds`: the best of some rounds.
double measure_peak(Isa isa, int threads, double seconds);

/// Bytes read and written a second over a footprint of `bytes`, in the same way: `read` sums an
/// array, `copy` scales one half of the footprint into the other, `update` scales it in place.
double measure_stream(Stream kind, int64_t bytes, Isa isa, int threads, double seconds);

/// The same for what an optimizer does: `count` arrays (1 to 3) are updated in place by one that is
/// only read, all of one size.
double measure_update(int count, int64_t bytes, Isa isa, int threads, double seconds);

}  // namespace handmill
