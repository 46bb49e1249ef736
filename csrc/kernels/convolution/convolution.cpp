// Convolution and transposed convolution as a product of matrices. Equation, classes and the
// meaning of a block: args.h. A sum runs as matmul's: one chain of fused multiply-adds a chunk of
// taps, chunks added in their order; so it depends on the taps, the channels and their cuts alone.
#include "kernels/convolution/window_tile.h"
#include "kernels/convolution/windows.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;
// Elements of a copied image whose successor has room in L2 beside it, and lines of it that are
// fetched with each tile.
constexpr int64_t kSmallRegion = 8192;
constexpr int kLinesPerTile = 4;

// The rows of the image, or of the next, that the next block reads first: fetched into L2, a few
// lines with each tile, while the tiles of this block keep the multipliers busy.
class NextRows {
 public:
  HM_INLINE NextRows(const ConvArgs& p, const Region& region, int64_t image, int64_t begin,
                     int64_t rows) {
    const ConvGeometry& shape = p.shape;
    if (W > 8 || !shape.copies || shape.groups > 1 || region.image > kSmallRegion) return;
    const int64_t row = shape.axis[1].source * shape.source_channels;
    next_ = p.source + (image * shape.axis[0].source + begin) * row;
    end_ = next_ + rows * row;
  }
  HM_INLINE void fetch_some() {
    for (int i = 0; i < kLinesPerTile && next_ < end_; ++i, next_ += 16) {
      __builtin_prefetch(next_, 0, 2);
    }
  }

 private:
  const float* next_ = nullptr;
  const float* end_ = nullptr;
};

struct Block {
  int64_t group, panel_begin, panel_end;
  int64_t first_image, images, row_begin, row_end;  // rows of the class
};

void convolve(const ConvArgs& p, const Taps& down, const Taps& across, const Block& block,
              char* scratch) {
  const ConvGeometry& shape = p.shape;
  const int64_t rows = block.row_end - block.row_begin, cols = across.targets();
  const Reach reach_down = down.reach(block.row_begin, block.row_end);
  const Reach reach_across = across.reach(0, cols);
  const Region region = region_of(shape, p.source + block.group * shape.depth, shape.depth,
                                  block.first_image, block.images, reach_down, reach_across,
                                  reinterpret_cast<float*>(scratch), shape.depth);
  // Where the rows of A and of C begin.
  const int64_t pixels = block.images * rows * cols;
  int64_t* const a_offset = reinterpret_cast<int64_t*>(scratch + p.source_scratch);
  int64_t* const c_offset = a_offset + pixels;
  auto* const segments = reinterpret_cast<WindowSegment*>(c_offset + pixels);
  const int64_t c_row = shape.axis[1].target * shape.target_channels;
  const int64_t a_step = across.source_step() * region.pixel;
  const int64_t c_step = across.target_step() * shape.target_channels;
  int64_t pixel = 0;
  for (int64_t n = 0; n < block.images; ++n) {
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t a = n * region.image + i * down.source_step() * region.row;
      const int64_t target = down.first + (block.row_begin + i) * down.target_step();
      const int64_t c = ((block.first_image + n) * shape.axis[0].target + target) * c_row +
                        across.first * shape.target_channels + block.group * shape.columns;
      for (int64_t j = 0; j < cols; ++j) {
        a_offset[pixel + j] = a + j * a_step;
        c_offset[pixel + j] = c + j * c_step;
      }
      pixel += cols;
    }
  }
  // Segments, of B by rows of a panel of one column; the panels' widths are multiplied in below.
  const int64_t taps_down = down.count(), taps_across = across.count();
  const int64_t joined = p.joins_taps ? taps_across : 1;
  int64_t num_segments = 0;
  for (int64_t k = 0; k < shape.axis[0].kernel; ++k) {
    if (!down.has(k)) continue;
    const int64_t a_row =
        (down.source(k) - (reach_down.begin - block.row_begin * down.source_step())) * region.row;
    for (int64_t l = 0; l < shape.axis[1].kernel; l += joined) {
      if (!across.has(l)) continue;
      segments[num_segments++] = {a_row + (across.source(l) - reach_across.begin) * region.pixel,
                                  (k * shape.axis[1].kernel + l) * shape.depth};
    }
  }
  const int64_t total_taps = taps_down * taps_across;
  const int64_t chunks = total_taps == 0 ? 1 : ceil_div(total_taps, p.taps_per_chunk);
  const int64_t per_chunk = p.taps_per_chunk / joined;
  WindowSegment* const scaled = segments + num_segments;

  const int64_t K = shape.axis[0].kernel * shape.axis[1].kernel * shape.depth;
  const float* const packed = p.packed + block.group * p.packed_group;
  const MatmulEpilogue& e = p.epilogue;
  const InTile in_tile(e);
  NextRows next_rows(p, region, block.first_image + block.images - 1, reach_down.end,
                     rows * down.source_step());
  const auto convolve_panel = [&](int64_t n, int vectors, int64_t columns) {
    WindowTile tile{};
    tile.a = region.data;
    tile.b = packed + K * n;
    tile.c = p.c + n;
    tile.a_offset = a_offset;
    tile.c_offset = c_offset;
    tile.length = joined * shape.depth;
    tile.a_step = 1;
    tile.b_stride = vectors * W;
    tile.last_lanes = columns - (vectors - 1) * W;
    for (int64_t s = 0; s < num_segments; ++s) {
      scaled[s] = {segments[s].a, segments[s].b * tile.b_stride};
    }
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t begin = chunk * per_chunk, end = begin + per_chunk;
      const bool is_last = chunk == chunks - 1;
      tile.segments = scaled + begin;
      tile.num_segments = (end < num_segments ? end : num_segments) - begin;
      tile.add_to_c = chunk > 0;
      const int64_t filter = block.group * shape.columns + n;
      tile.scale = is_last && e.scale != nullptr ? floats(e.scale) + filter : nullptr;
      tile.bias = is_last && e.bias != nullptr ? floats(e.bias) + filter : nullptr;
      tile.residual = is_last && in_tile.residual ? floats(e.residual) + n : nullptr;
      tile.relu = is_last && in_tile.relu;
      tile.gate = is_last && in_tile.gate ? floats(e.grad_of) + n : nullptr;
      run_tiles(tile, pixels, vectors, false, [&](const WindowTile& done, int64_t height) {
        next_rows.fetch_some();
        if (!is_last || in_tile.all) return;
        const int64_t first = done.c_offset[0];
        if (done.c_offset[height - 1] - first == (height - 1) * columns) {  // without gaps
          apply_epilogue(e, first + n, columns, p.c + first + n, columns, height, columns,
                         in_tile.relu);
          return;
        }
        for (int64_t r = 0; r < height; ++r) {
          const int64_t at = done.c_offset[r] + n;
          apply_epilogue(e, at, columns, p.c + at, columns, 1, columns, in_tile.relu);
        }
      });
    }
  };
  for_each_panel(shape.columns, p.panel_vectors, block.panel_begin, block.panel_end,
                 convolve_panel);
}

}  // namespace

// scratch: the copy of the source, then tables: where rows begin, segments.
void conv(const ConvArgs& p, Range blocks, void* scratch) {
  const ConvGeometry& shape = p.shape;
  const int64_t across_classes = shape.classes[1], classes = shape.classes[0] * across_classes;
  const int64_t num_panels = ceil_div(ceil_div(shape.columns, W), p.panel_vectors);
  const Split panels(num_panels, p.blocks_n);
  const bool of_rows = p.row_blocks > 1;
  const int64_t neighbours = of_rows ? p.row_blocks : p.image_blocks;
  const int64_t lines = of_rows ? p.image_blocks : 1;
  int64_t joined = 0;
  for (int64_t i = blocks.begin; i < blocks.end; i += joined) {
    const int64_t in_line = i % (neighbours * classes), line = i / (neighbours * classes);
    const int64_t first = in_line / (p.joined_blocks * classes) * p.joined_blocks;
    const int64_t left = neighbours - first;
    const int64_t together = left < p.joined_blocks ? left : p.joined_blocks;
    const int64_t which = in_line % (p.joined_blocks * classes) / together;
    const int64_t skipped = in_line % (p.joined_blocks * classes) % together;
    joined = together - skipped;
    if (joined > blocks.end - i) joined = blocks.end - i;
    const int64_t row_block = of_rows ? first + skipped : 0;
    const int64_t image_block = of_rows ? line % lines : first + skipped;
    const int64_t outer = line / lines;
    const int64_t row_step = of_rows ? joined : 1, image_step = joined / row_step;
    const int64_t column = outer % p.blocks_n;
    const Taps down{shape.axis[0], p.transposed, which / across_classes};
    const Taps across{shape.axis[1], p.transposed, which % across_classes};
    Block block{};
    block.group = outer / p.blocks_n;
    block.panel_begin = panels.at(column);
    block.panel_end = panels.at(column + 1);
    block.first_image = image_block * p.images_per_block;
    block.images = shape.images - block.first_image;
    if (block.images > image_step * p.images_per_block) {
      block.images = image_step * p.images_per_block;
    }
    block.row_begin = row_block * p.rows_per_block;
    block.row_end = block.row_begin + row_step * p.rows_per_block;
    const int64_t rows = down.targets();
    if (block.row_end > rows) block.row_end = rows;
    if (block.row_begin >= block.row_end || block.images <= 0) continue;
    convolve(p, down, across, block, static_cast<char*>(scratch));
  }
}

}  // namespace handmill::HM_ISA
