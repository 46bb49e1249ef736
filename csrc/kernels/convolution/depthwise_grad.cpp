// The gradient of the kernel of a depthwise convolution. Formula and the meaning of a block:
// args.h. An element of a slice is one chain of fused multiply-adds over the positions in their
// order; its sums so far lie in L1.
#include <cstring>

#include "kernels/convolution/depthwise.h"

namespace handmill::HM_ISA {
namespace {

// One row of dy.
struct GradRow {
  const TapLine &down, &across;
  SourceRows rows;
  const float* image;
  const float* dy;
  float* c;
  int64_t first_place;  // down
  int64_t channels;
  int64_t begin, end;  // channels

  template <bool kInside, class Lanes>
  HM_INLINE void load(Vec (&dy_t)[kTogether], int64_t j, int count, int64_t d, Lanes lanes) const {
#pragma GCC unroll 4
    for (int t = 0; t < kTogether; ++t) {
      dy_t[t] = kInside || t < count ? lanes.load(dy + (j + t) * channels + d) : Vec::zero();
    }
  }

  template <int L, int S, bool kInside>
  void group(int64_t j, int count) const {
    if constexpr (L == 0) {
      any_group<kInside>(j, count);
    } else {
      const Places<L, S, kInside> places(down, across, rows, j, channels, begin);
      const int64_t lines = down.count;
      for_each_vector(begin, end, [&](int64_t d, auto lanes) __attribute__((always_inline)) {
        Vec dy_t[kTogether];
        load<kInside>(dy_t, j, count, d, lanes);
        float* c_k = c + d;
        for (int64_t k = 0; k < lines; ++k) {
          Vec x[places.kCount];
          places.load(x, k, d, lanes);
#pragma GCC unroll 4
          for (int l = 0; l < L; ++l) {
            Vec sum = lanes.load(c_k);
#pragma GCC unroll 4
            for (int t = 0; t < kTogether; ++t) {
              if (kInside || t < count) sum = fma(x[t * S + l], dy_t[t], sum);
            }
            lanes.store(sum, c_k);
            c_k += channels;
          }
        }
        if constexpr (kInside) places.fetch_next(lines - 1, d);
      });
    }
  }

  template <bool kInside>
  HM_INLINE void any_group(int64_t j, int count) const {
    const int64_t row = across.extent * channels;
    for_each_vector(begin, end, [&](int64_t d, auto lanes) __attribute__((always_inline)) {
      Vec dy_t[kTogether];
      load<kInside>(dy_t, j, count, d, lanes);
      for (int64_t k = 0; k < down.count; ++k) {
        const int64_t place = first_place + k * down.spread;
        const AnyPlaces<kInside, decltype(lanes)> x(
            across, down.is_inside(place) ? image + place * row + d : nullptr,
            across.place + j * across.step, channels, lanes);
        float* const c_k = c + k * across.count * channels + d;
        for (int64_t l = 0; l < across.count; ++l) {
          Vec sum = lanes.load(c_k + l * channels);
#pragma GCC unroll 4
          for (int t = 0; t < kTogether; ++t) {
            if (kInside || t < count) sum = fma(x.of(t, l), dy_t[t], sum);
          }
          lanes.store(sum, c_k + l * channels);
        }
      }
    });
  }
};

}  // namespace

void depthwise_grad(const DepthwiseGradArgs& p, Range blocks, void*) {
  const ConvGeometry& shape = p.shape;
  const ConvAxis &down = shape.axis[0], &across = shape.axis[1];
  const int64_t C = shape.source_channels, taps = down.kernel * across.kernel;
  const Split slices(shape.images * down.target, p.slices);
  const TapLine line_down(Taps{down, false, 0}), line_across(Taps{across, false, 0});
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const int64_t slice = block / p.parts, part = block % p.parts;
    const int64_t begin = channels_at(part, p.parts, C), end = channels_at(part + 1, p.parts, C);
    float* const c = p.c + slice * taps * C;
    for (int64_t tap = 0; tap < taps && begin < end; ++tap) {
      std::memset(c + tap * C + begin, 0, static_cast<size_t>(end - begin) * sizeof(float));
    }
    for (int64_t r = slices.at(slice); r < slices.at(slice + 1); ++r) {
      const int64_t n = r / down.target, i = r % down.target;
      const int64_t first_place = line_down.place + i * line_down.step;
      const float* const image = p.source + n * down.source * across.source * C;
      const GradRow row{
          .down = line_down,
          .across = line_across,
          .rows = SourceRows(line_down, image, first_place, across.source * C),
          .image = image,
          .dy = p.dy + r * across.target * C,
          .c = c,
          .first_place = first_place,
          .channels = C,
          .begin = begin,
          .end = end,
      };
      for_each_group(line_across, row);
    }
  }
}

}  // namespace handmill::HM_ISA
