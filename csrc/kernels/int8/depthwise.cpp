// Convolutions of bytes with kernels of each channel. What a block reads of an image is copied with
// `zero` around; then each vector of channels goes over it, column after column of taps: a column
// of up to four taps is one group of bytes a lane, which neighbouring windows share.
#include "kernels/int8/finish.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = VecI::width;
constexpr int kTogether = 4;  // neighbouring positions

HM_INLINE int64_t groups_of(int64_t rows) { return (rows + 3) / 4; }

// The part of an image that a block reads: rows and columns of N bytes, channels repeated.
struct Part {
  uint8_t* bytes;
  int64_t columns;
  int64_t N;

  HM_INLINE const uint8_t* at(int64_t row, int64_t column) const {
    return bytes + (row * columns + column) * N;
  }
};

void copy_pixels(uint8_t* to, const uint8_t* from, int64_t pixels, int64_t C, int64_t multiplier) {
  if (multiplier == 1) {
    std::memcpy(to, from, static_cast<size_t>(pixels * C));
    return;
  }
  for (int64_t i = 0; i < pixels * C; ++i) {
    for (int64_t m = 0; m < multiplier; ++m) *to++ = from[i];
  }
}

// Rows [top, top + rows) of an image.
void copy_part(const Int8DepthwiseArgs& a, const uint8_t* image, int64_t top, int64_t rows,
               uint8_t zero, const Part& part) {
  const Int8Windows& w = a.windows;
  const int64_t size = part.columns * a.N;
  const int64_t before = w.before[1] < part.columns ? w.before[1] : part.columns;
  const int64_t rest = part.columns - before, inside = rest < w.W ? rest : w.W;
  for (int64_t r = 0; r < rows; ++r) {
    uint8_t* to = part.bytes + r * size;
    const int64_t h = top + r;
    if (h < 0 || h >= w.H) {
      std::memset(to, zero, static_cast<size_t>(size));
      continue;
    }
    std::memset(to, zero, static_cast<size_t>(before * a.N));
    copy_pixels(to + before * a.N, image + h * w.W * w.C, inside, w.C, a.multiplier);
    std::memset(to + (before + inside) * a.N, zero, static_cast<size_t>((rest - inside) * a.N));
  }
}

// One row of windows, W channels from `n` on.
struct Line {
  const Int8DepthwiseArgs& a;
  const Int8Finish& finish;
  const Part& part;
  const int8_t* weights;  // of the channels
  VecI start;
  Vec factor, bias;
  int64_t top;  // the first row of the part
  int64_t m;    // the row of results of the first window
  int64_t n;    // the first channel

  template <class Lanes>
  HM_INLINE void put(VecI sum, int64_t j, Lanes lanes) const {
    finish.put(to_float(sum) * factor, bias, m + j, n, a.N, lanes);
  }

  // Windows of kRows x 3 taps side by side, kStep columns apart.
  template <int kRows, int kStep, int kCount, class Lanes>
  HM_INLINE void three(int64_t j, const Groups (&w)[3], Lanes lanes) const {
    VecI sums[kCount];
#pragma GCC unroll 4
    for (VecI& sum : sums) sum = start;
    const int64_t row = part.columns * a.N * a.windows.dilations[0];
    const uint8_t* p = part.at(top, j * kStep) + n;
#pragma GCC unroll 12
    for (int i = 0; i < (kCount - 1) * kStep + 3; ++i, p += a.N) {
      const uint8_t* const rows[4] = {p, p + row, p + 2 * row, p + 2 * row};
      const Group x = lane_group<kRows>(rows);
#pragma GCC unroll 4
      for (int t = 0; t < kCount; ++t) {
        const int tap = i - t * kStep;
        if (0 <= tap && tap < 3) sums[t] = add_products(sums[t], x, w[tap]);
      }
    }
#pragma GCC unroll 4
    for (int t = 0; t < kCount; ++t) put(sums[t], j + t, lanes);
  }

  template <int kRows, int kStep, class Lanes>
  HM_INLINE void all_of_three(Lanes lanes) const {
    const Groups w[3] = {load_groups(weights), load_groups(weights + 4 * W),
                         load_groups(weights + 8 * W)};
    const int64_t count = a.windows.columns;
    int64_t j = 0;
    for (; j + kTogether <= count; j += kTogether) three<kRows, kStep, kTogether>(j, w, lanes);
    for (; j < count; ++j) three<kRows, kStep, 1>(j, w, lanes);
  }

  // Any other windows, one by one.
  template <class Lanes>
  HM_INLINE void all(Lanes lanes) const {
    const Int8Windows& s = a.windows;
    const int64_t groups = groups_of(s.taps[0]), last = s.taps[0] - 1;
    for (int64_t j = 0; j < s.columns; ++j) {
      VecI sum = start;
      const int8_t* w = weights;
      for (int64_t t = 0; t < s.taps[1]; ++t) {
        const int64_t column = j * s.strides[1] + t * s.dilations[1];
        for (int64_t g = 0; g < groups; ++g, w += 4 * W) {
          const uint8_t* rows[4];
          for (int64_t i = 0; i < 4; ++i) {
            const int64_t tap = 4 * g + i < last ? 4 * g + i : last;
            rows[i] = part.at(top + tap * s.dilations[0], column) + n;
          }
          const uint8_t* const fixed[4] = {rows[0], rows[1], rows[2], rows[3]};
          sum = add_products(sum, lane_group<4>(fixed), load_groups(w));
        }
      }
      put(sum, j, lanes);
    }
  }
};

template <class Lanes>
void run_line(const Line& line, Lanes lanes) {
  const Int8Windows& w = line.a.windows;
  if (w.taps[0] == 3 && w.taps[1] == 3 && w.dilations[1] == 1) {
    if (w.strides[1] == 1) return line.all_of_three<3, 1>(lanes);
    if (w.strides[1] == 2) return line.all_of_three<3, 2>(lanes);
  }
  line.all(lanes);
}

}  // namespace

void int8_depthwise(const Int8DepthwiseArgs& a, Range blocks, void* scratch) {
  const Int8Windows& w = a.windows;
  const auto zero = static_cast<int32_t>(*a.zero);
  const Int8Finish finish(a);
  const Part part{static_cast<uint8_t*>(scratch),
                  (w.columns - 1) * w.strides[1] + (w.taps[1] - 1) * w.dilations[1] + 1, a.N};
  const auto* sums = static_cast<const int32_t*>(a.packed);
  const int64_t vectors = (a.N + W - 1) / W;
  const auto* packed = reinterpret_cast<const int8_t*>(sums + vectors * W);
  const int64_t size = w.taps[1] * groups_of(w.taps[0]) * 4 * W;  // of the weights of a vector
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const int64_t image = block / a.row_blocks, begin = block % a.row_blocks * a.rows_per_block;
    const int64_t left = w.rows - begin;
    const int64_t rows = left < a.rows_per_block ? left : a.rows_per_block;
    copy_part(a, a.x + image * w.H * w.W * w.C, begin * w.strides[0] - w.before[0],
              (rows - 1) * w.strides[0] + (w.taps[0] - 1) * w.dilations[0] + 1,
              static_cast<uint8_t>(zero), part);
    for_each_vector(0, a.N, [&](int64_t n, auto lanes) {
      Line line{.a = a,
                .finish = finish,
                .part = part,
                .weights = packed + n / W * size,
                .start = VecI::broadcast(-zero) * VecI::load(sums + n),
                .factor = lanes.load(a.factors + n),
                .bias = a.bias == nullptr ? Vec::zero() : lanes.load(a.bias + n),
                .top = 0,
                .m = (image * w.rows + begin) * w.columns,
                .n = n};
      for (int64_t i = 0; i < rows; ++i) {
        run_line(line, lanes);
        line.top += w.strides[0];
        line.m += w.columns;
      }
    });
  }
}

}  // namespace handmill::HM_ISA
