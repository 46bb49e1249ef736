// The gradient of a convolution of 3x3 taps by its kernel, by Winograd's filtering. Equations:
// winograd.h; the meaning of a block: args.h. A sum over the tiles of a chunk is one chain of fused
// multiply-adds; chunks and slices are added in order.
#include <cstring>

#include "kernels/convolution/window_tile.h"
#include "kernels/convolution/winograd.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;

// G^T u along one axis.
HM_INLINE void contract(Vec u0, Vec u1, Vec u2, Vec u3, Vec* w) {
  const Vec half = Vec::broadcast(0.5f), sum = half * (u1 + u2);
  w[0] = u0 + sum;
  w[1] = half * (u1 - u2);
  w[2] = sum + u3;
}

// The gradient of all taps for channel d and `lanes` filters from o on, tap by tap.
void sum_taps_directly(const WinogradFinishArgs& p, int64_t d, int64_t o, int64_t lanes, Vec* w) {
  const ConvGeometry& shape = p.shape;
  const ConvAxis &down = shape.axis[0], &across = shape.axis[1];
  for (int tap = 0; tap < 9; ++tap) w[tap] = Vec::zero();
  for (int64_t n = 0; n < shape.images; ++n) {
    for (int64_t i = 0; i < down.target; ++i) {
      for (int64_t j = 0; j < across.target; ++j) {
        const Vec dy = Vec::load_n(
            p.dy + ((n * down.target + i) * across.target + j) * shape.columns + o, lanes);
        for (int64_t tap = 0; tap < 9; ++tap) {
          const int64_t y = i + tap / 3 - down.before, x = j + tap % 3 - across.before;
          const bool is_inside = y >= 0 && y < down.source && x >= 0 && x < across.source;
          const float source =
              is_inside ? p.source[((n * down.source + y) * across.source + x) * shape.depth + d]
                        : 0.0f;
          w[tap] = fma(Vec::broadcast(source), dy, w[tap]);
        }
      }
    }
  }
}

}  // namespace

// scratch: zeros, transformed tiles of the source and of dy, where rows begin.
void winograd_grad(const WinogradGradArgs& p, Range blocks, void* scratch) {
  const ConvGeometry& shape = p.shape;
  const int64_t all_panels = ceil_div(ceil_div(shape.columns, W), p.panel_vectors);
  const Split panels(all_panels, p.blocks_n), vectors(ceil_div(shape.columns, W), all_panels);
  const TileGrid grid(shape);
  const Split slices(shape.images * grid.down * grid.across, p.slices);
  const int64_t longest = shape.depth > shape.columns ? shape.depth : shape.columns;
  float* const zeros = static_cast<float*>(scratch);
  std::memset(zeros, 0, static_cast<size_t>(longest) * sizeof(float));
  const int64_t a_row = odd_lines(p.depth_part);
  float* const a = zeros + odd_lines(longest);
  float* const b = a + kTilePoints * p.tiles_per_chunk * a_row;
  for (int64_t i = blocks.begin; i < blocks.end; ++i) {
    const int64_t part = i % p.parts, column = i / p.parts % p.blocks_n;
    const int64_t slice = i / p.parts / p.blocks_n;
    const int64_t panel_begin = panels.at(column), panel_end = panels.at(column + 1);
    const int64_t first_column = vectors.at(panel_begin) * W, end = vectors.at(panel_end) * W;
    const int64_t columns = (end < shape.columns ? end : shape.columns) - first_column;
    const int64_t b_row = odd_lines(end - first_column);
    int64_t* const a_offset =
        reinterpret_cast<int64_t*>(b + kTilePoints * p.tiles_per_chunk * b_row);
    int64_t* const c_offset = a_offset + p.depth_part;
    const int64_t d = part * p.depth_part;
    const int64_t depth = shape.depth - d < p.depth_part ? shape.depth - d : p.depth_part;
    for (int64_t m = 0; m < depth; ++m) {
      a_offset[m] = m;
      c_offset[m] = m * shape.columns;
    }
    float* const sums = p.sums + (slice * kTilePoints * shape.depth + d) * shape.columns;
    const int64_t first_tile = slices.at(slice), end_tile = slices.at(slice + 1);
    for (int64_t chunk = first_tile; chunk < end_tile; chunk += p.tiles_per_chunk) {
      const int64_t left = end_tile - chunk;
      const int64_t tiles = left < p.tiles_per_chunk ? left : p.tiles_per_chunk;
      TilePlace place = grid.at(chunk);
      for (int64_t t = 0; t < tiles; ++t) {
        transform_source(shape, p.source + d, place, depth, zeros, a + t * a_row,
                         p.tiles_per_chunk * a_row);
        transform_gradient(shape, p.dy + first_column, place, columns, zeros, b + t * b_row,
                           p.tiles_per_chunk * b_row);
        grid.advance(place);
      }
      const WindowSegment all{0, 0};
      WindowTile tile{};
      tile.a_offset = a_offset;
      tile.c_offset = c_offset;
      tile.segments = &all;
      tile.num_segments = 1;
      tile.length = tiles;
      tile.a_step = a_row;
      tile.b_stride = b_row;
      tile.add_to_c = chunk > first_tile;
      for (int64_t f = 0; f < kTilePoints; ++f) {
        tile.a = a + f * p.tiles_per_chunk * a_row;
        for_each_panel(shape.columns, p.panel_vectors, panel_begin, panel_end,
                       [&](int64_t n, int count, int64_t of_panel) {
                         tile.b = b + f * p.tiles_per_chunk * b_row + n - first_column;
                         tile.c = sums + f * shape.depth * shape.columns + n;
                         tile.last_lanes = of_panel - (count - 1) * W;
                         run_tiles(tile, depth, count, false, [](const WindowTile&, int64_t) {});
                       });
      }
    }
  }
}

void winograd_finish(const WinogradFinishArgs& p, Range blocks, void*) {
  const ConvGeometry& shape = p.shape;
  const int64_t of_point = shape.depth * shape.columns;
  const Split parts(shape.depth, p.blocks);
  const int64_t end = parts.at(blocks.end);
  for (int64_t d = parts.at(blocks.begin); d < end; ++d) {
    for (int64_t o = 0; o < shape.columns; o += W) {
      const int64_t lanes = shape.columns - o < W ? shape.columns - o : W;
      const int64_t at = d * shape.columns + o;
      Vec w[9];
      Vec rows[3][4];
      for (int j = 0; j < 4; ++j) {
        Vec u[4];
        for (int i = 0; i < 4; ++i) {
          const float* const sums = p.sums + (4 * i + j) * of_point + at;
          u[i] = Vec::load_n(sums, lanes);
          for (int64_t slice = 1; slice < p.slices; ++slice) {
            u[i] = u[i] + Vec::load_n(sums + slice * kTilePoints * of_point, lanes);
          }
        }
        Vec found[3];
        contract(u[0], u[1], u[2], u[3], found);
        for (int i = 0; i < 3; ++i) rows[i][j] = found[i];
      }
      Vec not_finite = Vec::zero();
      for (int i = 0; i < 3; ++i)
        contract(rows[i][0], rows[i][1], rows[i][2], rows[i][3], w + 3 * i);
      for (int tap = 0; tap < 9; ++tap) not_finite = no_number(w[tap], not_finite);
      if (any(not_finite != not_finite)) [[unlikely]] {
        sum_taps_directly(p, d, o, lanes, w);
      }
      for (int tap = 0; tap < 9; ++tap) w[tap].store_n(p.dw + tap * of_point + at, lanes);
    }
  }
}

}  // namespace handmill::HM_ISA
