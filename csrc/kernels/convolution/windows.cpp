#include "kernels/convolution/windows.h"

#include <cstring>

namespace handmill::HM_ISA {
namespace {

// dst[(i - across.begin) * depth + d] = src[i * pixel + d], zero beyond [0, extent).
void copy_row(const float* src, int64_t pixel, int64_t extent, Reach across, int64_t depth,
              float* dst) {
  const int64_t begin = across.begin < 0 ? 0 : across.begin;
  const int64_t end = across.end > extent ? extent : across.end;
  const auto zero = [](float* from, float* to) {
    std::memset(from, 0, static_cast<size_t>(to - from) * sizeof(float));
  };
  float* const behind = dst + across.size() * depth;
  if (begin >= end) return zero(dst, behind);  // all of it lies beside the source
  float* const first = dst + (begin - across.begin) * depth;
  float* const last = first + (end - begin) * depth;
  zero(dst, first);
  if (pixel == depth) {
    copy_rows(src + begin * pixel, 0, first, 0, 1, (end - begin) * depth);
  } else {
    copy_rows(src + begin * pixel, pixel, first, depth, end - begin, depth);
  }
  zero(last, behind);
}

}  // namespace

Region region_of(const ConvGeometry& shape, const float* source, int64_t first_image,
                 int64_t images, Reach down, Reach across, float* scratch) {
  const int64_t pixel = shape.source_channels, row = shape.axis[1].source * pixel;
  const int64_t image = shape.axis[0].source * row;
  source += first_image * image;
  if (!shape.copies) {
    return {source + down.begin * row + across.begin * pixel, image, row, pixel};
  }
  const int64_t copied_row = across.size() * shape.depth;
  const Region region{scratch, down.size() * copied_row, copied_row, shape.depth};
  for (int64_t n = 0; n < images; ++n) {
    for (int64_t i = down.begin; i < down.end; ++i) {
      float* to = scratch + n * region.image + (i - down.begin) * copied_row;
      if (i < 0 || i >= shape.axis[0].source) {
        std::memset(to, 0, static_cast<size_t>(copied_row) * sizeof(float));
      } else {
        copy_row(source + n * image + i * row, pixel, shape.axis[1].source, across, shape.depth,
                 to);
      }
    }
  }
  return region;
}

}  // namespace handmill::HM_ISA
