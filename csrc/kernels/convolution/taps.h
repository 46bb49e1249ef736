// Which places of a source windows meet: one arithmetic for kernels, of all levels, and for what
// launches them. So all of it is always inlined.
#pragma once

#include "kernels/convolution/args.h"

namespace handmill {

/// Source positions [begin, end) along one axis, which may reach beyond the image.
struct Reach {
  int64_t begin, end;
  [[gnu::always_inline]] int64_t size() const { return end > begin ? end - begin : 0; }
};

/// The taps that the target positions of one class meet along one axis, in the order of k.
struct Taps {
  const ConvAxis& axis;
  bool transposed;
  int64_t first;  // target position of the class: first + i * target_step

  [[gnu::always_inline]] int64_t target_step() const { return transposed ? axis.stride : 1; }
  [[gnu::always_inline]] int64_t source_step() const { return transposed ? 1 : axis.stride; }
  [[gnu::always_inline]] int64_t targets() const {
    return (axis.target - first + target_step() - 1) / target_step();
  }
  [[gnu::always_inline]] bool has(int64_t k) const {
    return !transposed || (first + axis.before - k * axis.dilation) % axis.stride == 0;
  }
  // Of a tap that it has: the source position that position 0 of the class meets.
  [[gnu::always_inline]] int64_t source(int64_t k) const {
    return transposed ? (first + axis.before - k * axis.dilation) / axis.stride
                      : k * axis.dilation - axis.before;
  }
  [[gnu::always_inline]] int64_t count() const {
    int64_t n = 0;
    for (int64_t k = 0; k < axis.kernel; ++k) n += has(k);
    return n;
  }
  // Of the targets [begin, end).
  [[gnu::always_inline]] Reach reach(int64_t begin, int64_t end) const {
    Reach found{0, 0};
    bool any = false;
    for (int64_t k = 0; k < axis.kernel; ++k) {
      if (!has(k)) continue;
      const int64_t low = source(k) + begin * source_step();
      const int64_t high = source(k) + (end - 1) * source_step() + 1;
      found =
          any ? Reach{low < found.begin ? low : found.begin, high > found.end ? high : found.end}
              : Reach{low, high};
      any = true;
    }
    return found;
  }
};

}  // namespace handmill
