// The gradient of a convolution by its kernel. Equation and the meaning of a block: args.h. A sum
// over the positions of a chunk is one chain of fused multiply-adds; chunks and slices are added in
// order.
#include "kernels/convolution/window_tile.h"
#include "kernels/convolution/windows.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;

struct Block {
  int64_t group, slice, depth_begin, depth_end, panel_begin, panel_end;
};

void sum_block(const ConvKernelGradArgs& p, const Block& block, char* scratch) {
  const ConvGeometry& shape = p.shape;
  const ConvAxis &down = shape.axis[0], &across = shape.axis[1];
  const int64_t taps = down.kernel * across.kernel, depth = block.depth_end - block.depth_begin;
  const int64_t rows = taps * depth;
  int64_t* const a_offset = reinterpret_cast<int64_t*>(scratch + p.source_scratch);
  int64_t* const c_offset = a_offset + rows;
  auto* const segments = reinterpret_cast<WindowSegment*>(c_offset + rows);
  const float* const source = p.source + block.group * shape.depth + block.depth_begin;
  float* const c = p.c + block.group * shape.columns +
                   (block.slice * taps * shape.depth + block.depth_begin) * shape.target_channels;

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
    const Region region = region_of(shape, source, depth, first_image, images,
                                    Taps{down, false, 0}.reach(row_begin, row_end), reach_across,
                                    reinterpret_cast<float*>(scratch), p.copied_pixel);
    if (chunk == first_chunk) {
      for (int64_t m = 0; m < rows; ++m) {
        const int64_t tap = m / depth, d = m % depth;
        a_offset[m] = tap / across.kernel * down.dilation * region.row +
                      tap % across.kernel * across.dilation * region.pixel + d;
        c_offset[m] = (tap * shape.depth + d) * shape.target_channels;
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
      run_tiles(tile, rows, vectors, tile.last_lanes != W, [](const WindowTile&, int64_t) {});
    };
    for_each_panel(shape.columns, p.panel_vectors, block.panel_begin, block.panel_end, sum_panel);
  }
}

}  // namespace

// scratch: the copy of the source, then tables: where rows begin, segments.
void conv_kernel_grad(const ConvKernelGradArgs& p, Range blocks, void* scratch) {
  const ConvGeometry& shape = p.shape;
  const Split panels(ceil_div(ceil_div(shape.columns, W), p.panel_vectors), p.blocks_n);
  for (int64_t i = blocks.begin; i < blocks.end; ++i) {
    const int64_t part = i % p.parts, column = i / p.parts % p.blocks_n;
    Block block{};
    block.slice = i / p.parts / p.blocks_n % p.slices;
    block.group = i / p.parts / p.blocks_n / p.slices;
    block.depth_begin = part * p.depth_part;
    const int64_t end = block.depth_begin + p.depth_part;
    block.depth_end = end < shape.depth ? end : shape.depth;
    block.panel_begin = panels.at(column);
    block.panel_end = panels.at(column + 1);
    sum_block(p, block, static_cast<char*>(scratch));
  }
}

}  // namespace handmill::HM_ISA
