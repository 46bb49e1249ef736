// The gradient of a convolution by its kernel. Equation and the meaning of a block: args.h. A sum
// over the positions of a chunk is one chain of fused multiply-adds; chunks and slices are added in
// order.
#include "kernels/convolution/window_tile.h"
#include "kernels/convolution/windows.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;

struct Block {
  int64_t group, slice, tile_begin, tile_end, panel_begin, panel_end;
};

void sum_block(const ConvKernelGradArgs& p, const Block& block, char* scratch) {
  const ConvGeometry& shape = p.shape;
  const ConvAxis &down = shape.axis[0], &across = shape.axis[1];
  const int64_t M = down.kernel * across.kernel * shape.depth;
  const Split row_tiles(M, ceil_div(M, p.tile_rows));
  const int64_t m_begin = row_tiles.at(block.tile_begin), m_end = row_tiles.at(block.tile_end);
  int64_t* const a_offset = reinterpret_cast<int64_t*>(scratch + p.source_scratch);
  int64_t* const c_offset = a_offset + (m_end - m_begin);
  auto* const segments = reinterpret_cast<WindowSegment*>(c_offset + (m_end - m_begin));
  float* const c = p.c + block.slice * M * shape.target_channels + block.group * shape.columns;

  const int64_t row_chunks = ceil_div(down.target, p.rows_per_chunk);
  const int64_t chunks = ceil_div(shape.images, p.images_per_chunk) * row_chunks;
  const Split slices(chunks, p.slices);
  const Reach reach_across = Taps{across, false, 0}.reach(0, across.target);
  const int64_t dy_row = across.target * shape.target_channels;
  const int64_t first_chunk = slices.at(block.slice), end_chunk = slices.at(block.slice + 1);
  for (int64_t chunk = first_chunk; chunk < end_chunk; ++chunk) {
    const int64_t first_image = chunk / row_chunks * p.images_per_chunk;
    int64_t images = shape.images - first_image;
    if (images > p.images_per_chunk) images = p.images_per_chunk;
    const int64_t row_begin = chunk % row_chunks * p.rows_per_chunk;
    int64_t row_end = row_begin + p.rows_per_chunk;
    if (row_end > down.target) row_end = down.target;
    const Region region = region_of(shape, p.source + block.group * shape.depth, first_image,
                                    images, Taps{down, false, 0}.reach(row_begin, row_end),
                                    reach_across, reinterpret_cast<float*>(scratch));
    if (chunk == first_chunk) {
      for (int64_t m = m_begin; m < m_end; ++m) {
        const int64_t tap = m / shape.depth;
        a_offset[m - m_begin] = tap / across.kernel * down.dilation * region.row +
                                tap % across.kernel * across.dilation * region.pixel +
                                m % shape.depth;
        c_offset[m - m_begin] = m * shape.target_channels;
      }
    }
    int64_t num_segments = 0;
    for (int64_t n = 0; n < images; ++n) {
      for (int64_t i = row_begin; i < row_end; ++i) {
        segments[num_segments++] = {
            n * region.image + (i - row_begin) * down.stride * region.row,
            ((first_image + n) * down.target + i) * dy_row + block.group * shape.columns};
      }
    }
    const auto sum_panel = [&](int64_t n, int vectors, int64_t columns) {
      WindowTile tile{};
      tile.a = region.data;
      tile.b = p.dy + n;
      tile.c = c + n;
      tile.a_offset = a_offset;
      tile.c_offset = c_offset;
      tile.segments = segments;
      tile.num_segments = num_segments;
      tile.length = across.target;
      tile.a_step = across.stride * region.pixel;
      tile.b_stride = shape.target_channels;
      tile.last_lanes = columns - (vectors - 1) * W;
      tile.add_to_c = chunk > first_chunk;
      run_tiles(tile, m_end - m_begin, vectors, tile.last_lanes != W,
                [](const WindowTile&, int64_t) {});
    };
    for_each_panel(shape.columns, p.panel_vectors, block.panel_begin, block.panel_end, sum_panel);
  }
}

}  // namespace

// scratch: the copy of the source, then tables: where rows begin, segments.
void conv_kernel_grad(const ConvKernelGradArgs& p, Range blocks, void* scratch) {
  const ConvGeometry& shape = p.shape;
  const int64_t M = shape.axis[0].kernel * shape.axis[1].kernel * shape.depth;
  const Split tiles(ceil_div(M, p.tile_rows), p.blocks_m);
  const Split panels(ceil_div(ceil_div(shape.columns, W), p.panel_vectors), p.blocks_n);
  for (int64_t i = blocks.begin; i < blocks.end; ++i) {
    const int64_t row = i % p.blocks_m, column = i / p.blocks_m % p.blocks_n;
    Block block{};
    block.slice = i / p.blocks_m / p.blocks_n % p.slices;
    block.group = i / p.blocks_m / p.blocks_n / p.slices;
    block.tile_begin = tiles.at(row);
    block.tile_end = tiles.at(row + 1);
    block.panel_begin = panels.at(column);
    block.panel_end = panels.at(column + 1);
    sum_block(p, block, static_cast<char*>(scratch));
  }
}

}  // namespace handmill::HM_ISA
