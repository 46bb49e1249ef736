// Copies between strided arrangements, and what other families need of them.
#pragma once

#include <cstdint>
#include <span>

#include "core/lower/builder.h"

namespace handmill {

/// Axes of a copy, outermost first; strides in items, those of y not negative. Grows axis by axis.
struct Strided {
  static constexpr int kMaxRank = 16;
  int rank = 0;
  int64_t x_start = 0;  // the item of x at index (0, 0, ...)
  int64_t shape[kMaxRank], x_stride[kMaxRank], y_stride[kMaxRank];

  void push(int64_t dim, int64_t x, int64_t y);
};

/// Adds the launch that copies items of `item_bytes` from x to y as `axes` say. x == nullptr: every
/// item is `value` (its low item_bytes), and x strides are ignored.
void copy_strided(LaunchWriter& writer, const Ref& y, const Ref* x, Strided axes,
                  int64_t item_bytes, uint64_t value = 0);

/// y, of y_shape and contiguous, is x broadcast as NumPy does.
void broadcast_into(LaunchWriter& writer, const Ref& y, std::span<const int64_t> y_shape,
                    const Ref& x, std::span<const int64_t> x_shape, int64_t item_bytes);

/// y = x with its axes in the order of `perm`, both contiguous.
void transpose_into(LaunchWriter& writer, const Ref& y, const Ref& x,
                    std::span<const int64_t> x_shape, std::span<const int64_t> perm,
                    int64_t item_bytes);

}  // namespace handmill
