// Convolutions with one filter a channel, and the gradient of their kernels. Formulas: args.h.
#include "kernels/convolution/windows.h"
#include "kernels/lanes.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;
constexpr int kTogether = 4;  // positions that share what is loaded of the kernel

// Whether a position of a class has tap k, and meets the image with it.
HM_INLINE bool meets(const Taps& taps, int64_t k, int64_t position) {
  if (!taps.has(k)) return false;
  const int64_t at = taps.source(k) + position * taps.source_step();
  return 0 <= at && at < taps.axis.source;
}

// Positions [begin, end) of an axis for which every tap of the class lies in the image.
HM_INLINE Reach inner_positions(const Taps& taps) {
  const int64_t step = taps.source_step();
  Reach found{0, taps.targets()};
  for (int64_t k = 0; k < taps.axis.kernel; ++k) {
    if (!taps.has(k)) continue;
    const int64_t at = taps.source(k);
    const int64_t first = at >= 0 ? 0 : ceil_div(-at, step);
    const int64_t end = at >= taps.axis.source ? 0 : (taps.axis.source - 1 - at) / step + 1;
    if (first > found.begin) found.begin = first;
    if (end < found.end) found.end = end;
  }
  // Taps of the first positions, or of all, may lie in the padding.
  if (found.begin > taps.targets()) found.begin = taps.targets();
  if (found.end < found.begin) found.end = found.begin;
  return found;
}

// One row of outputs: positions of a class.
void convolve_row(const DepthwiseArgs& p, const Taps& down, const Taps& across, int64_t n,
                  int64_t i) {
  const ConvGeometry& shape = p.shape;
  const int64_t C = shape.source_channels, row = shape.axis[1].source * C;
  const float* image = p.source + n * shape.axis[0].source * row;
  const int64_t target = down.first + i * down.target_step();
  const int64_t offset =
      ((n * shape.axis[0].target + target) * shape.axis[1].target + across.first) * C;
  const int64_t c_step = across.target_step() * C, a_step = across.source_step() * C;
  const int64_t cols = across.targets();
  const Reach inner = inner_positions(across);
  const float* bias = floats(p.epilogue.bias);
  for_each_vector(0, C, [&](int64_t d, auto lanes) {
    const Vec start = bias == nullptr ? Vec::zero() : lanes.load(bias + d);
    const auto at = [&](int64_t k, int64_t l, int64_t j) {
      return image + (down.source(k) + i * down.source_step()) * row +
             (across.source(l) + j * across.source_step()) * C + d;
    };
    const auto one = [&](int64_t j) {
      Vec sum = Vec::zero();
      for (int64_t k = 0; k < down.axis.kernel; ++k) {
        if (!meets(down, k, i)) continue;
        for (int64_t l = 0; l < across.axis.kernel; ++l) {
          if (!meets(across, l, j)) continue;
          sum = fma(lanes.load(at(k, l, j)), lanes.load(p.w + (k * across.axis.kernel + l) * C + d),
                    sum);
        }
      }
      lanes.store(sum + start, p.c + offset + j * c_step + d);
    };
    int64_t j = 0;
    for (; j < inner.begin && j < cols; ++j) one(j);
    for (; j + kTogether <= inner.end; j += kTogether) {
      Vec sum[kTogether];
      for (Vec& s : sum) s = Vec::zero();
      for (int64_t k = 0; k < down.axis.kernel; ++k) {
        if (!meets(down, k, i)) continue;
        for (int64_t l = 0; l < across.axis.kernel; ++l) {
          if (!across.has(l)) continue;
          const Vec w = lanes.load(p.w + (k * across.axis.kernel + l) * C + d);
          const float* a = at(k, l, j);
          for (int t = 0; t < kTogether; ++t) sum[t] = fma(lanes.load(a + t * a_step), w, sum[t]);
        }
      }
      for (int t = 0; t < kTogether; ++t) {
        lanes.store(sum[t] + start, p.c + offset + (j + t) * c_step + d);
      }
    }
    for (; j < cols; ++j) one(j);
  });
  const MatmulEpilogue& e = p.epilogue;
  if (e.residual == nullptr && e.activation == Activation::none && e.grad == ActivationGrad::none) {
    return;
  }
  if (c_step == C) {
    apply_epilogue(e, offset, cols * C, p.c + offset, cols * C, 1, cols * C, false);
  } else {
    apply_epilogue(e, offset, c_step, p.c + offset, c_step, cols, C, false);
  }
}

}  // namespace

void depthwise(const DepthwiseArgs& p, Range blocks, void*) {
  const ConvGeometry& shape = p.shape;
  const int64_t across_classes = shape.classes[1], classes = shape.classes[0] * across_classes;
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const int64_t n = block / p.row_blocks % shape.images;
    const int64_t which = block / p.row_blocks / shape.images % classes;
    const Taps down{shape.axis[0], p.transposed, which / across_classes};
    const Taps across{shape.axis[1], p.transposed, which % across_classes};
    const int64_t begin = block % p.row_blocks * p.rows_per_block, rows = down.targets();
    for (int64_t i = begin; i < begin + p.rows_per_block && i < rows; ++i) {
      convolve_row(p, down, across, n, i);
    }
  }
}

namespace {

// The sums of V vectors of channels from d on, of up to kTogether taps of kernel row k, over some
// rows of dy: positions whose taps all lie in the image first, row by row, then the others.
template <int V, class Lanes>
HM_INLINE void sum_taps(const DepthwiseGradArgs& p, Range rows, int64_t k, int64_t l, int64_t d,
                        Lanes lanes, float* c) {
  const ConvGeometry& shape = p.shape;
  const ConvAxis &down = shape.axis[0], &across = shape.axis[1];
  const int64_t C = shape.source_channels, row = across.source * C, step = across.stride * C;
  const int64_t taps = across.kernel - l < kTogether ? across.kernel - l : kTogether;
  const Reach inner = inner_positions(Taps{across, false, 0});
  Vec sum[kTogether][V];
  for (auto& of_tap : sum) {
    for (Vec& s : of_tap) s = Vec::zero();
  }
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const int64_t n = r / down.target;
    const int64_t i = r % down.target * down.stride + k * down.dilation - down.before;
    if (i < 0 || i >= down.source) continue;
    const float* x =
        p.source + (n * down.source + i) * row + (l * across.dilation - across.before) * C + d;
    const float* dy = p.dy + r * across.target * C + d;
    const auto add = [&](int64_t j, auto inside) {
      Vec dy_j[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) dy_j[v] = lanes.load(dy + j * C + v * W);
#pragma GCC unroll 4
      for (int t = 0; t < kTogether; ++t) {
        if (t >= taps || !inside(t)) continue;
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) {
          const float* at = x + j * step + t * across.dilation * C + v * W;
          sum[t][v] = fma(lanes.load(at), dy_j[v], sum[t][v]);
        }
      }
    };
    if (taps == 3) {  // of most kernels
      for (int64_t j = inner.begin; j < inner.end; ++j) add(j, [](int t) { return t < 3; });
    } else {
      for (int64_t j = inner.begin; j < inner.end; ++j) add(j, [](int) { return true; });
    }
    const auto border = [&](int64_t j) {
      const int64_t first = j * across.stride + l * across.dilation - across.before;
      add(j, [&](int t) {
        const int64_t at = first + t * across.dilation;
        return 0 <= at && at < across.source;
      });
    };
    for (int64_t j = 0; j < inner.begin; ++j) border(j);
    for (int64_t j = inner.end; j < across.target; ++j) border(j);
  }
  for (int64_t t = 0; t < taps; ++t) {
    float* const to = c + (k * across.kernel + l + t) * C + d;
    for (int v = 0; v < V; ++v) lanes.store(sum[t][v], to + v * W);
  }
}

}  // namespace

// A chain of fused multiply-adds for each element of c and slice.
void depthwise_grad(const DepthwiseGradArgs& p, Range blocks, void*) {
  const ConvGeometry& shape = p.shape;
  const ConvAxis &down = shape.axis[0], &across = shape.axis[1];
  const int64_t C = shape.source_channels;
  const Split slices(shape.images * down.target, p.slices);
  for (int64_t slice = blocks.begin; slice < blocks.end; ++slice) {
    float* const c = p.c + slice * down.kernel * across.kernel * C;
    const Range rows{slices.at(slice), slices.at(slice + 1)};
    for (int64_t k = 0; k < down.kernel; ++k) {
      for (int64_t l = 0; l < across.kernel; l += kTogether) {
        int64_t d = 0;
        for (; d + 2 * W <= C; d += 2 * W) sum_taps<2>(p, rows, k, l, d, AllLanes{}, c);
        for_each_vector(
            d, C, [&](int64_t from, auto lanes) { sum_taps<1>(p, rows, k, l, from, lanes, c); });
      }
    }
  }
}

}  // namespace handmill::HM_ISA
