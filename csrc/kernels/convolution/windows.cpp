#include "kernels/convolution/windows.h"

#include <cstring>

namespace handmill::HM_ISA {
namespace {

// dst[(i - across.begin) * copied + d] = src[i * pixel + d] for `channels` of d, zero beyond
// [0, extent).
void copy_row(const float* src, int64_t pixel, int64_t extent, Reach across, int64_t channels,
              float* dst, int64_t copied) {
  const int64_t begin = across.begin < 0 ? 0 : across.begin;
  const int64_t end = across.end > extent ? extent : across.end;
  const auto zero = [](float* from, float* to) {
    std::memset(from, 0, static_cast<size_t>(to - from) * sizeof(float));
  };
  float* const behind = dst + across.size() * copied;
  if (begin >= end) return zero(dst, behind);  // all of it lies beside the source
  float* const first = dst + (begin - across.begin) * copied;
  float* const last = first + (end - begin) * copied;
  zero(dst, first);
  if (pixel == channels && copied == channels) {
    copy_rows(src + begin * pixel, 0, first, 0, 1, (end - begin) * channels);
  } else {
    copy_rows(src + begin * pixel, pixel, first, copied, end - begin, channels);
  }
  zero(last, behind);
}

}  // namespace

Region region_of(const ConvGeometry& shape, const float* source, int64_t channels,
                 int64_t first_image, int64_t images, Reach down, Reach across, float* scratch,
                 int64_t copied_pixel) {
  const int64_t pixel = shape.source_channels, row = shape.axis[1].source * pixel;
  const int64_t image = shape.axis[0].source * row;
  source += first_image * image;
  if (!shape.copies) {
    return {source + down.begin * row + across.begin * pixel, image, row, pixel};
  }
  const int64_t copied_row = across.size() * copied_pixel;
  const Region region{scratch, down.size() * copied_row, copied_row, copied_pixel};
  for (int64_t n = 0; n < images; ++n) {
    for (int64_t i = down.begin; i < down.end; ++i) {
      float* to = scratch + n * region.image + (i - down.begin) * copied_row;
      if (i < 0 || i >= shape.axis[0].source) {
        std::memset(to, 0, static_cast<size_t>(copied_row) * sizeof(float));
      } else {
        copy_row(source + n * image + i * row, pixel, shape.axis[1].source, across, channels, to,
                 copied_pixel);
      }
    }
  }
  return region;
}

}  // namespace handmill::HM_ISA
