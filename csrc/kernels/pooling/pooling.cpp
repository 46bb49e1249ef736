// Maxima and means over windows of images, and their gradients.
#include <type_traits>

#include "kernels/lanes.h"
#include "kernels/pooling/args.h"

namespace handmill::HM_ISA {
namespace {

// Positions of the input that the window at output position t covers.
struct Window {
  int64_t begin, end;
  HM_INLINE int64_t size() const { return end - begin; }
};

HM_INLINE Window window_at(const PoolAxis& axis, int64_t t) {
  const int64_t begin = t * axis.stride - axis.before, end = begin + axis.window;
  return {begin > 0 ? begin : 0, end < axis.input ? end : axis.input};
}

// Output positions whose windows hold input position i.
HM_INLINE Window windows_over(const PoolAxis& axis, int64_t i) {
  const int64_t at = i + axis.before;
  const int64_t begin = at < axis.window ? 0 : (at - axis.window) / axis.stride + 1;
  const int64_t end = at / axis.stride + 1;
  return {begin, end < axis.output ? end : axis.output};
}

// A number of taps that the compiler knows, beside int64_t for those that it does not.
template <int64_t kSize>
using TapCount = std::integral_constant<int64_t, kSize>;

// f(height, width), which windows of 2x2 taps, the usual ones, have as constants: their loops over
// taps are none.
template <class F>
HM_INLINE void with_taps(Window down, Window across, F f) {
  if (down.size() == 2 && across.size() == 2) {
    f(TapCount<2>{}, TapCount<2>{});
  } else {
    f(down.size(), across.size());
  }
}

// f(y, x, height, width, lanes) for every vector of channels of every output position of some rows:
// y where it goes, x the first element of its window of height * width.
template <class F>
HM_INLINE void for_each_output(const PoolArgs& p, Range blocks, F f) {
  const PoolAxis &down = p.axis[0], &across = p.axis[1];
  const Range rows = items_of(blocks, p.rows_per_block, p.images * down.output);
  const int64_t image = down.input * across.input * p.channels;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const Window vertical = window_at(down, row % down.output);
    const float* of_row =
        p.x + row / down.output * image + vertical.begin * across.input * p.channels;
    for (int64_t j = 0; j < across.output; ++j) {
      const Window horizontal = window_at(across, j);
      float* y = p.y + (row * across.output + j) * p.channels;
      const float* x = of_row + horizontal.begin * p.channels;
      with_taps(vertical, horizontal, [&](auto height, auto width) {
        for_each_vector(0, p.channels,
                        [&](int64_t c, auto lanes) { f(y + c, x + c, height, width, lanes); });
      });
    }
  }
}

// The gradient of one vector of channels: the share of dy goes where the window's first maximum
// lies, and is added to what is there unless every element lies in one window.
template <class Height, class Width, class Lanes>
HM_INLINE void share_with_most(const float* x, const float* dy, float* dx, int64_t row,
                               int64_t pixel, bool gated, bool once, Height height, Width width,
                               Lanes lanes) {
  Vec best = Vec::broadcast(__builtin_nanf("")), chosen = Vec::zero();
  float tap = 0;
  for (int64_t k = 0; k < height; ++k) {
    for (int64_t l = 0; l < width; ++l, tap += 1) {
      const Vec value = lanes.load(x + k * row + l * pixel);
      const auto stays = best >= value;  // a NaN never does
      chosen = select(stays, chosen, Vec::broadcast(tap));
      best = select(stays, best, value);
    }
  }
  Vec share = lanes.load(dy);
  if (gated) share = select(best > Vec::zero(), share, Vec::zero());
  tap = 0;
  for (int64_t k = 0; k < height; ++k) {
    for (int64_t l = 0; l < width; ++l, tap += 1) {
      float* to = dx + k * row + l * pixel;
      const Vec found = select(chosen == Vec::broadcast(tap), share, Vec::zero());
      lanes.store(once ? found : lanes.load(to) + found, to);
    }
  }
}

}  // namespace

void max_pool(const PoolArgs& p, Range blocks, void*) {
  const int64_t pixel = p.channels, row = p.axis[1].input * pixel;
  for_each_output(p, blocks, [=](float* y, const float* x, auto height, auto width, auto lanes) {
    Vec most = Vec::broadcast(-__builtin_inff());
    for (int64_t i = 0; i < height; ++i) {
      for (int64_t j = 0; j < width; ++j) most = max(most, lanes.load(x + i * row + j * pixel));
    }
    lanes.store(most, y);
  });
}

void average_pool(const PoolArgs& p, Range blocks, void*) {
  const int64_t pixel = p.channels, row = p.axis[1].input * pixel;
  for_each_output(p, blocks, [=](float* y, const float* x, auto height, auto width, auto lanes) {
    Vec sum = Vec::zero();
    for (int64_t i = 0; i < height; ++i) {
      for (int64_t j = 0; j < width; ++j) sum = sum + lanes.load(x + i * row + j * pixel);
    }
    lanes.store(sum / Vec::broadcast(static_cast<float>(height * width)), y);
  });
}

void max_pool_grad(const MaxPoolGradArgs& p, Range blocks, void*) {
  const PoolAxis &down = p.axis[0], &across = p.axis[1];
  const int64_t pixel = p.channels, row = across.input * pixel, image = down.input * row;
  // Where every element lies in one window, each is written once.
  const auto tiles = [](const PoolAxis& axis) {
    return axis.window == axis.stride && axis.before == 0 &&
           axis.output * axis.stride == axis.input;
  };
  const bool once = tiles(down) && tiles(across);
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const int64_t n = block / p.channel_blocks;
    const int64_t first = block % p.channel_blocks * p.channels_per_block;
    int64_t last = first + p.channels_per_block;
    if (last > p.channels) last = p.channels;
    const float* dy = p.dy + n * down.output * across.output * pixel;
    if (!once) {
      for (int64_t i = 0; i < down.input * across.input; ++i) {
        for_each_vector(first, last, [&](int64_t c, auto lanes) {
          lanes.store(Vec::zero(), p.dx + n * image + i * pixel + c);
        });
      }
    }
    for (int64_t i = 0; i < down.output; ++i) {
      const Window vertical = window_at(down, i);
      for (int64_t j = 0; j < across.output; ++j, dy += pixel) {
        const Window horizontal = window_at(across, j);
        const int64_t at = n * image + vertical.begin * row + horizontal.begin * pixel;
        with_taps(vertical, horizontal, [&](auto height, auto width) {
          for_each_vector(first, last, [&](int64_t c, auto lanes) {
            share_with_most(p.x + at + c, dy + c, p.dx + at + c, row, pixel, p.gated, once, height,
                            width, lanes);
          });
        });
      }
    }
  }
}

void average_pool_grad(const AveragePoolGradArgs& p, Range blocks, void*) {
  const PoolAxis &down = p.axis[0], &across = p.axis[1];
  const int64_t pixel = p.channels;
  const Range rows = items_of(blocks, p.rows_per_block, p.images * down.input);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const Window vertical = windows_over(down, row % down.input);
    const float* dy = p.dy + row / down.input * down.output * across.output * pixel;
    for (int64_t j = 0; j < across.input; ++j) {
      const Window horizontal = windows_over(across, j);
      float* dx = p.dx + (row * across.input + j) * pixel;
      for_each_vector(0, pixel, [&](int64_t c, auto lanes) {
        Vec sum = Vec::zero();
        for (int64_t k = vertical.begin; k < vertical.end; ++k) {
          const int64_t height = window_at(down, k).size();
          for (int64_t l = horizontal.begin; l < horizontal.end; ++l) {
            const int64_t count = height * window_at(across, l).size();
            const Vec share = lanes.load(dy + (k * across.output + l) * pixel + c);
            sum = sum + share / Vec::broadcast(static_cast<float>(count));
          }
        }
        lanes.store(sum, dx + c);
      });
    }
  }
}

}  // namespace handmill::HM_ISA
