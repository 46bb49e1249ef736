// How work is cut into blocks: by its size, so that results do not depend on the threads. (Products
// also look at the number of threads, for cuts that decide no bits: matmul/plan.h.)
#pragma once

#include <algorithm>
#include <cstdint>

namespace handmill {

/// Items of about this many elements in all make one block: several microseconds of work, well
/// above the cost of sharing it, and little enough to stay in the L1 or L2 cache.
inline constexpr int64_t kBlockElements = 8192;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t n, int64_t multiple) { return ceil_div(n, multiple) * multiple; }

/// Items of `item_size` elements for one block.
inline int64_t items_per_block(int64_t item_size, int64_t elements = kBlockElements) {
  return std::max<int64_t>(1, elements / std::max<int64_t>(1, item_size));
}

/// `size` cut into as few parts of at most max(1, most) as can be, as even as can be: the largest.
inline int64_t even_part(int64_t size, int64_t most) {
  return size == 0 ? 1 : ceil_div(size, ceil_div(size, std::max<int64_t>(1, most)));
}

}  // namespace handmill
