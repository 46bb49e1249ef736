// The transforms of Winograd's filtering that go before the products. Equations: winograd.h.
#include "kernels/convolution/window_tile.h"
#include "kernels/convolution/winograd.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;

// G w G^T of the three taps along one axis: w0, (w0 + w1 + w2) / 2, (w0 - w1 + w2) / 2, w2.
HM_INLINE void expand(Vec w0, Vec w1, Vec w2, Vec* u) {
  const Vec half = Vec::broadcast(0.5f), ends = half * (w0 + w2), middle = half * w1;
  u[0] = w0;
  u[1] = ends + middle;
  u[2] = ends - middle;
  u[3] = w2;
}

constexpr int64_t kRowsAtOnce = 8;

}  // namespace

// scratch: some rows of a panel, tap by tap.
void winograd_kernel(const WinogradKernelArgs& p, Range blocks, void* scratch) {
  const SmallKernel& kernel = p.kernel;
  const Split parts(ceil_div(ceil_div(p.N, W), p.panel_vectors), p.blocks_n), rows(p.K, p.blocks_k);
  float* const taps = static_cast<float*>(scratch);
  for (int64_t i = blocks.begin; i < blocks.end; ++i) {
    const int64_t j = i / p.blocks_k;
    const int64_t row_begin = rows.at(i % p.blocks_k), row_end = rows.at(i % p.blocks_k + 1);
    const auto transform_panel = [&](int64_t column, int vectors, int64_t columns) {
      const int64_t width = vectors * W, of_tap = kRowsAtOnce * width;
      float* const to = p.packed + kTilePoints * p.K * column;
      const float* const w = kernel.w + kernel.first + column * kernel.column_step;
      for (int64_t k = row_begin; k < row_end; k += kRowsAtOnce) {
        const int64_t count = row_end - k < kRowsAtOnce ? row_end - k : kRowsAtOnce;
        for (int64_t tap = 0; tap < 9; ++tap) {
          copy_panel(w + tap * kernel.tap + k * kernel.row_step, kernel.row_step,
                     kernel.column_step, count, columns, vectors, taps + tap * of_tap);
        }
        for (int64_t at = 0; at < count * width; at += W) {
          const auto tap = [&](int down, int across) {
            return Vec::load(taps + (3 * down + across) * of_tap + at);
          };
          Vec across[3][4];
          for (int l = 0; l < 3; ++l) expand(tap(l, 0), tap(l, 1), tap(l, 2), across[l]);
          for (int f = 0; f < 4; ++f) {
            Vec u[4];
            expand(across[0][f], across[1][f], across[2][f], u);
            for (int g = 0; g < 4; ++g) u[g].store(to + ((4 * g + f) * p.K + k) * width + at);
          }
        }
      }
    };
    for_each_panel(p.N, p.panel_vectors, parts.at(j), parts.at(j + 1), transform_panel);
  }
}

namespace {

// B^T d along one axis.
HM_INLINE void mix_source(Vec d0, Vec d1, Vec d2, Vec d3, Vec* t) {
  t[0] = d0 - d2;
  t[1] = d1 + d2;
  t[2] = d2 - d1;
  t[3] = d1 - d3;
}

// A dy along one axis.
HM_INLINE void mix_gradient(Vec d0, Vec d1, Vec* t) {
  t[0] = d0;
  t[1] = d0 + d1;
  t[2] = d0 - d1;
  t[3] = Vec::zero() - d1;
}

// Calls f(first channel, load) for each vector of channels, where load(p) reads it from p on.
template <class F>
HM_INLINE void for_each_vector(int64_t channels, F f) {
  int64_t d = 0;
  for (; d + W <= channels; d += W) {
    f(d, [](const float* p) { return Vec::load(p); });
  }
  if (d < channels) {
    f(d, [&](const float* p) { return Vec::load_n(p, channels - d); });
  }
}

// The tile whose element (i, j) begins at at(i, j).
template <class At>
HM_INLINE void transform_tile(At at, int64_t channels, float* to, int64_t point) {
  for_each_vector(channels, [&](int64_t d, auto load) {
    Vec rows[4][4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      Vec t[4];
      mix_source(load(at(0, j) + d), load(at(1, j) + d), load(at(2, j) + d), load(at(3, j) + d), t);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) rows[i][j] = t[i];
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      Vec t[4];
      mix_source(rows[i][0], rows[i][1], rows[i][2], rows[i][3], t);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) t[j].store(to + (4 * i + j) * point + d);
    }
  });
}

}  // namespace

void transform_source(const ConvGeometry& shape, const float* source, const TilePlace& tile,
                      int64_t channels, const float* zeros, float* to, int64_t point) {
  const int64_t pixel = shape.source_channels, row = shape.axis[1].source * pixel;
  const int64_t top = tile.down - shape.axis[0].before, left = tile.across - shape.axis[1].before;
  const float* const image = source + tile.image * shape.axis[0].source * row;
  const bool is_inside =
      top >= 0 && left >= 0 && top + 4 <= shape.axis[0].source && left + 4 <= shape.axis[1].source;
  if (is_inside) {
    const float* const first = image + top * row + left * pixel;
    transform_tile([=](int i, int j) { return first + i * row + j * pixel; }, channels, to, point);
    return;
  }
  const float* x[kTilePoints];
  for (int64_t i = 0; i < 4; ++i) {
    const bool has_row = top + i >= 0 && top + i < shape.axis[0].source;
    for (int64_t j = 0; j < 4; ++j) {
      const bool has_pixel = has_row && left + j >= 0 && left + j < shape.axis[1].source;
      x[4 * i + j] = has_pixel ? image + (top + i) * row + (left + j) * pixel : zeros;
    }
  }
  transform_tile([&](int i, int j) { return x[4 * i + j]; }, channels, to, point);
}

void transform_gradient(const ConvGeometry& shape, const float* dy, const TilePlace& tile,
                        int64_t filters, const float* zeros, float* to, int64_t point) {
  const int64_t pixel = shape.target_channels, row = shape.axis[1].target * pixel;
  const float* const at =
      dy + (tile.image * shape.axis[0].target + tile.down) * row + tile.across * pixel;
  const bool has_right = tile.across + 1 < shape.axis[1].target;
  const bool has_below = tile.down + 1 < shape.axis[0].target;
  const float* const right = has_right ? at + pixel : zeros;
  const float* const below = has_below ? at + row : zeros;
  const float* const beyond = has_right && has_below ? at + row + pixel : zeros;
  for_each_vector(filters, [&](int64_t o, auto load) {
    Vec left_column[4], right_column[4];
    mix_gradient(load(at + o), load(below + o), left_column);
    mix_gradient(load(right + o), load(beyond + o), right_column);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      Vec t[4];
      mix_gradient(left_column[i], right_column[i], t);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) t[j].store(to + (4 * i + j) * point + o);
    }
  });
}

}  // namespace handmill::HM_ISA
