// Convolution of 3x3 taps by Winograd's filtering: transformed tiles, 16 products of matrices (rows
// are tiles, K the channels), and sums of those. Equations: winograd.h; the meaning of a block:
// args.h. The sum of one element depends on its tile and the channels alone.
#include "kernels/convolution/winograd.h"

#include <cstring>

#include "kernels/convolution/window_tile.h"
#include "simd/activations.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;
constexpr int kNarrow = 16;  // factors that registers hold beside sums, at avx512

// What the blocks of a call share, in scratch.
struct Scratch {
  float* zeros;
  float* tiles;     // [16][tiles_per_block][row]
  float* products;  // [16][tiles_per_block][panel's width], of several panels if K is cut
  int64_t* a_offset;
  int64_t* c_offset;
  int64_t row;  // floats from tile to tile: an odd number of cache lines
};

// A^T m along one axis.
HM_INLINE Vec first_sum(Vec m0, Vec m1, Vec m2) { return m0 + m1 + m2; }
HM_INLINE Vec second_sum(Vec m1, Vec m2, Vec m3) { return m1 - m2 - m3; }

// The four sums of a tile for `lanes` filters from column n on, tap by tap.
void sum_directly(const WinogradArgs& p, const TilePlace& tile, const float* zeros, int64_t n,
                  int64_t lanes, Vec* y) {
  const ConvGeometry& shape = p.shape;
  const SmallKernel& kernel = p.kernel;
  for (int i = 0; i < 4; ++i) y[i] = Vec::zero();
  const int64_t row = shape.axis[1].source * shape.depth;
  for (int64_t k = 0; k < 3; ++k) {
    for (int64_t l = 0; l < 3; ++l) {
      const float* x[4];
      for (int64_t i = 0; i < 4; ++i) {
        const int64_t down = tile.down + i / 2 + k - shape.axis[0].before;
        const int64_t across = tile.across + i % 2 + l - shape.axis[1].before;
        const bool is_inside = down >= 0 && down < shape.axis[0].source && across >= 0 &&
                               across < shape.axis[1].source;
        x[i] = is_inside ? p.source + (tile.image * shape.axis[0].source + down) * row +
                               across * shape.depth
                         : zeros;
      }
      const float* const w =
          kernel.w + kernel.first + (3 * k + l) * kernel.tap + n * kernel.column_step;
      for (int64_t d = 0; d < shape.depth; ++d) {
        float of_lane[W] = {};
        for (int64_t lane = 0; lane < lanes; ++lane) {
          of_lane[lane] = w[d * kernel.row_step + lane * kernel.column_step];
        }
        const Vec factor = Vec::load(of_lane);
        for (int i = 0; i < 4; ++i) y[i] = fma(Vec::broadcast(x[i][d]), factor, y[i]);
      }
    }
  }
}

// What follows the sums, of one panel.
class Finish {
 public:
  Finish(const WinogradArgs& p, int64_t n, int vectors, int64_t columns)
      : p_(p), n_(n), vectors_(vectors), columns_(columns), in_tile_(p.epilogue) {}

  // products: the first of the tile's 16 rows, `point` floats apart.
  HM_INLINE void tile(const TilePlace& tile, const float* products, int64_t point,
                      const float* zeros) const {
    const ConvGeometry& shape = p_.shape;
    const MatmulEpilogue& e = p_.epilogue;
    const int64_t row = shape.axis[1].target * shape.columns;
    const int64_t at =
        (tile.image * shape.axis[0].target + tile.down) * row + tile.across * shape.columns + n_;
    const int64_t down = tile.down + 1 < shape.axis[0].target ? 2 : 1;
    const int64_t across = tile.across + 1 < shape.axis[1].target ? 2 : 1;
    for (int v = 0; v < vectors_; ++v) {
      const float* const m = products + v * W;
      Vec left[4], right[4];  // first and second sums across, of each row of points
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const float* const of_row = m + 4 * i * point;
        const Vec m1 = Vec::load(of_row + point), m2 = Vec::load(of_row + 2 * point);
        left[i] = first_sum(Vec::load(of_row), m1, m2);
        right[i] = second_sum(m1, m2, Vec::load(of_row + 3 * point));
      }
      Vec y[4] = {first_sum(left[0], left[1], left[2]), first_sum(right[0], right[1], right[2]),
                  second_sum(left[1], left[2], left[3]), second_sum(right[1], right[2], right[3])};
      const int64_t lanes = columns_ - v * W < W ? columns_ - v * W : W;
      Vec not_finite = Vec::zero();
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) not_finite = no_number(y[i], not_finite);
      if (any(not_finite != not_finite)) [[unlikely]] {
        sum_directly(p_, tile, zeros, n_ + v * W, lanes, y);
      }
      const int64_t filter = n_ + v * W;
      if (e.scale != nullptr) {
        const Vec scale = Vec::load_n(floats(e.scale) + filter, lanes);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) y[i] = y[i] * scale;
      }
      if (e.bias != nullptr) {
        const Vec bias = Vec::load_n(floats(e.bias) + filter, lanes);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) y[i] = y[i] + bias;
      }
      const auto load = [&](const void* operand, int64_t to) {
        return lanes == W ? Vec::load(floats(operand) + to)
                          : Vec::load_n(floats(operand) + to, lanes);
      };
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        if (i / 2 >= down || i % 2 >= across) continue;
        const int64_t to = at + v * W + i / 2 * row + i % 2 * shape.columns;
        if (in_tile_.residual) y[i] = y[i] + load(e.residual, to);
        if (in_tile_.relu) y[i] = relu(y[i]);
        if (in_tile_.gate) y[i] = relu_grad(y[i], load(e.grad_of, to));
        if (lanes == W) {
          y[i].store(p_.c + to);
        } else {
          y[i].store_n(p_.c + to, lanes);
        }
      }
    }
    if (in_tile_.all) return;
    for (int64_t i = 0; i < down; ++i) {
      for (int64_t j = 0; j < across; ++j) {
        const int64_t to = at + i * row + j * shape.columns;
        apply_epilogue(e, to, columns_, p_.c + to, columns_, 1, columns_, in_tile_.relu);
      }
    }
  }

 private:
  const WinogradArgs& p_;
  int64_t n_;
  int vectors_;
  int64_t columns_;
  InTile in_tile_;
};

// c[t] = a[t] b for one vector of columns, whose K factors stay in registers, for t < rows. Two
// rows at a time: a and c have room for an even number.
template <int K>
void multiply_narrow(const float* a, int64_t a_row, const float* b, float* c, int64_t rows) {
  Vec factors[K];
#pragma GCC unroll 16
  for (int k = 0; k < K; ++k) factors[k] = Vec::load(b + k * W);
#pragma GCC unroll 1
  for (int64_t t = 0; t < rows; t += 2) {
    const float* const a_t = a + t * a_row;
    Vec even = Vec::broadcast(a_t[0]) * factors[0];
    Vec odd = Vec::broadcast(a_t[a_row]) * factors[0];
#pragma GCC unroll 16
    for (int k = 1; k < K; ++k) {
      even = fma(Vec::broadcast(a_t[k]), factors[k], even);
      odd = fma(Vec::broadcast(a_t[a_row + k]), factors[k], odd);
    }
    even.store(c + t * W);
    odd.store(c + (t + 1) * W);
  }
}

void filter_tiles(const WinogradArgs& p, int64_t first, int64_t tiles, int64_t panel_begin,
                  int64_t panel_end, const Scratch& s) {
  const ConvGeometry& shape = p.shape;
  const TileGrid grid(shape);
  const int64_t point = p.tiles_per_block * s.row;
  const WindowSegment all{0, 0};
  WindowTile tile{};
  tile.a_offset = s.a_offset;
  tile.c_offset = s.c_offset;
  tile.segments = &all;
  tile.num_segments = 1;
  tile.a_step = 1;
  tile.last_lanes = W;
  for (int64_t d = 0; d < shape.depth; d += p.depth_chunk) {
    const int64_t left = shape.depth - d;
    const bool is_last = left <= p.depth_chunk;
    tile.length = is_last ? left : p.depth_chunk;
    tile.add_to_c = d > 0;
    TilePlace place = grid.at(first);
    for (int64_t t = 0; t < tiles; ++t) {
      transform_source(shape, p.source + d, place, tile.length, s.zeros, s.tiles + t * s.row,
                       point);
      grid.advance(place);
    }
    float* products = s.products;
    const auto filter_panel = [&](int64_t n, int vectors, int64_t columns) {
      const int64_t width = vectors * W, of_point = p.tiles_per_block * width;
      for (int64_t t = 0; t < tiles; ++t) s.c_offset[t] = t * width;
      tile.b_stride = width;
      for (int64_t f = 0; f < kTilePoints; ++f) {
        tile.a = s.tiles + f * point;
        tile.b = p.packed + shape.depth * (kTilePoints * n + f * width) + d * width;
        tile.c = products + f * of_point;
        if (W == kNarrow && vectors == 1 && shape.depth == kNarrow) {
          multiply_narrow<kNarrow>(tile.a, s.row, tile.b, tile.c, tiles);
          continue;
        }
        run_tiles(tile, tiles, vectors, false, [](const WindowTile&, int64_t) {});
      }
      if (is_last) {
        const Finish finish(p, n, vectors, columns);
        TilePlace target = grid.at(first);
        for (int64_t t = 0; t < tiles; ++t) {
          finish.tile(target, products + t * width, of_point, s.zeros);
          grid.advance(target);
        }
      }
      if (p.depth_chunk < shape.depth) products += kTilePoints * of_point;
    };
    for_each_panel(shape.columns, p.panel_vectors, panel_begin, panel_end, filter_panel);
  }
}

}  // namespace

// scratch: zeros, transformed tiles, products, where rows of both begin.
void winograd(const WinogradArgs& p, Range blocks, void* scratch) {
  const ConvGeometry& shape = p.shape;
  const int64_t vectors = ceil_div(shape.columns, W);
  const Split panels(ceil_div(vectors, p.panel_vectors), p.blocks_n);
  const TileGrid grid(shape);
  const int64_t all_tiles = shape.images * grid.down * grid.across;
  Scratch s{};
  s.row = odd_lines(p.depth_chunk);
  s.zeros = static_cast<float*>(scratch);
  s.tiles = s.zeros + odd_lines(shape.depth);
  s.products = s.tiles + kTilePoints * p.tiles_per_block * s.row;
  s.a_offset =
      reinterpret_cast<int64_t*>(s.products + kTilePoints * p.tiles_per_block * p.product_columns);
  s.c_offset = s.a_offset + p.tiles_per_block;
  std::memset(s.zeros, 0, static_cast<size_t>(shape.depth) * sizeof(float));
  for (int64_t t = 0; t < p.tiles_per_block; ++t) s.a_offset[t] = t * s.row;
  for (int64_t i = blocks.begin; i < blocks.end; ++i) {
    const int64_t first = i % p.tile_blocks * p.tiles_per_block, column = i / p.tile_blocks;
    const int64_t left = all_tiles - first;
    filter_tiles(p, first, left < p.tiles_per_block ? left : p.tiles_per_block, panels.at(column),
                 panels.at(column + 1), s);
  }
}

}  // namespace handmill::HM_ISA
