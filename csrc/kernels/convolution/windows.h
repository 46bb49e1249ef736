// The part of an image that the windows of a block cover, and where its elements lie.
#pragma once

#include "kernels/convolution/args.h"
#include "kernels/matmul/parts.h"

namespace handmill::HM_ISA {

/// Source positions [begin, end) along one axis, which may reach beyond the image.
struct Reach {
  int64_t begin, end;
  HM_INLINE int64_t size() const { return end > begin ? end - begin : 0; }
};

/// The taps that the target positions of one class meet along one axis, in the order of k.
struct Taps {
  const ConvAxis& axis;
  bool transposed;
  int64_t first;  // target position of the class: first + i * target_step

  HM_INLINE int64_t target_step() const { return transposed ? axis.stride : 1; }
  HM_INLINE int64_t source_step() const { return transposed ? 1 : axis.stride; }
  HM_INLINE int64_t targets() const { return ceil_div(axis.target - first, target_step()); }
  HM_INLINE bool has(int64_t k) const {
    return !transposed || (first + axis.before - k * axis.dilation) % axis.stride == 0;
  }
  // Of a tap that it has: the source position that position 0 of the class meets.
  HM_INLINE int64_t source(int64_t k) const {
    return transposed ? (first + axis.before - k * axis.dilation) / axis.stride
                      : k * axis.dilation - axis.before;
  }
  HM_INLINE int64_t count() const {
    int64_t n = 0;
    for (int64_t k = 0; k < axis.kernel; ++k) n += has(k);
    return n;
  }
  // Of the targets [begin, end).
  HM_INLINE Reach reach(int64_t begin, int64_t end) const {
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

/// Some images, or their copy with zeros around: `data` is the first image's element at the first
/// positions of both reaches.
struct Region {
  const float* data;
  int64_t image, row, pixel;  // strides
};

/// The channels of one group, from images [first_image, ...): where they lie, or copied to
/// `scratch`.
Region region_of(const ConvGeometry& shape, const float* source, int64_t first_image,
                 int64_t images, Reach down, Reach across, float* scratch);

}  // namespace handmill::HM_ISA
