// Matrix products of bfloat16 numbers with float32 sums. Equation, order of the sums, layouts and
// the meaning of a block: args.h.
#include "kernels/matmul/bf16_parts.h"
#include "simd/bf16_dot.h"
#include "simd/tile.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;
constexpr int64_t kPanelFloats = kBf16Tile.vectors * W;

// The part of C that one block computes.
struct Block {
  int64_t outer, inner;  // batch indices
  int64_t tile_begin, tile_end, panel_begin, panel_end;
  int64_t m_begin, m_end;
  int64_t pair_begin, K2;  // of the slice
  int64_t K;
};

// A as the register tiles read it.
struct Rows {
  const uint16_t* a;
  int64_t row, pair;  // strides
  int64_t stride;     // the one that the kernel asks for
};

Rows rows_of_a(const MatmulArgs& p, const Block& block, uint16_t* scratch, bool is_packed) {
  const int64_t rows = block.m_end - block.m_begin;
  const void* a = element(p.a.data, p.a.dtype,
                          batch_offset(p.a.batch, block.outer, block.inner) +
                              block.m_begin * p.a.row + 2 * block.pair_begin * p.a.col);
  const PairSource source{a, p.a.dtype, p.a.col, p.a.row, block.K, rows};
  switch (p.a_layout) {
    case MatmulALayout::kRows:
      return {static_cast<const uint16_t*>(a), p.a.row, 2, p.a.row};
    case MatmulALayout::kCopyRows: {
      const int64_t stride = 2 * odd_lines(block.K2);
      if (!is_packed) pack_rows(source, scratch, stride);
      return {scratch, stride, 2, stride};
    }
    default: {
      const int64_t stride = odd_lines(rows);
      if (!is_packed) pack_pairs(source, scratch, stride, ceil_div(rows, W) * W);
      return {scratch, 2, 2 * stride, 2 * stride};
    }
  }
}

}  // namespace

void matmul_bf16(const MatmulArgs& p, Range blocks, void* scratch) {
  if (p.M == 0 || p.N == 0) return;
  char* const room = static_cast<char*>(scratch);
  uint16_t* const b_scratch = reinterpret_cast<uint16_t*>(room);
  uint16_t* const a_scratch = reinterpret_cast<uint16_t*>(room + p.b_scratch);
  float* const c_scratch = reinterpret_cast<float*>(room + p.b_scratch + p.a_scratch);
  float* const widened = c_scratch + p.c_scratch / 8;

  const int64_t num_tiles = ceil_div(p.M, p.tile_rows), vectors = ceil_div(p.N, W);
  const int64_t num_panels = ceil_div(vectors, p.panel_vectors), all_pairs = ceil_div(p.K, 2);
  const Split rows(p.M, num_tiles), row_groups(num_tiles, p.blocks_m);
  const Split panels(vectors, num_panels), panel_groups(num_panels, p.blocks_n);
  const Split slices(all_pairs, p.slices);
  const MatmulEpilogue& e = p.epilogue;
  const bool in_slices = p.slices > 1, a_rows = p.a_layout != MatmulALayout::kCopyColumns;
  const bool in_place = in_slices || p.c_dtype == Dtype::float32;
  const bool has_epilogue = e.scale != nullptr || e.bias != nullptr || e.residual != nullptr ||
                            e.activation != Activation::none || e.grad != ActivationGrad::none;

  int64_t copied_a = -1, copied_b = -1;  // what the blocks before left in scratch
  for (int64_t index = blocks.begin; index < blocks.end; ++index) {
    const int64_t i = index % p.blocks_m, j = index / p.blocks_m % p.blocks_n;
    const int64_t depth = index / p.blocks_m / p.blocks_n;
    const int64_t slice = depth % p.slices, batch = depth / p.slices;
    Block block{};
    block.outer = batch / p.batch[1];
    block.inner = batch % p.batch[1];
    block.tile_begin = row_groups.at(i);
    block.tile_end = row_groups.at(i + 1);
    block.m_begin = rows.at(block.tile_begin);
    block.m_end = rows.at(block.tile_end);
    block.panel_begin = panel_groups.at(j);
    block.panel_end = panel_groups.at(j + 1);
    block.pair_begin = slices.at(slice);
    block.K2 = slices.at(slice + 1) - block.pair_begin;
    const int64_t k_left = p.K - 2 * block.pair_begin;
    block.K = k_left < 2 * block.K2 ? k_left : 2 * block.K2;

    const Rows a = rows_of_a(p, block, a_scratch, copied_a == depth * p.blocks_m + i);
    copied_a = depth * p.blocks_m + i;
    const bool b_is_copied = copied_b == index / p.blocks_m;
    copied_b = index / p.blocks_m;

    const int64_t block_n = panels.at(block.panel_begin) * W;
    const bool in_strips = kStripPanels > 0 && block.m_end - block.m_begin == 1 &&
                           p.b_layout == MatmulBLayout::kPacked;
    alignas(64) float strip[kStripPanels * kPanelFloats + 1];
    int strip_left = 0;  // panels whose sums are in `strip`
    for (int64_t panel = block.panel_begin; panel < block.panel_end; ++panel) {
      const int64_t n = panels.at(panel) * W, padded = panels.at(panel + 1) * W - n;
      const int64_t columns = p.N - n < padded ? p.N - n : padded;
      const int panel_vectors = static_cast<int>(padded / W);
      const uint16_t* b;
      if (p.b_layout == MatmulBLayout::kPacked) {
        b = static_cast<const uint16_t*>(p.b.data) +
            2 * (batch_offset(p.b.batch, block.outer, block.inner) + all_pairs * n +
                 block.pair_begin * padded);
      } else {
        uint16_t* copy = b_scratch + (p.blocks_m > 1 ? 2 * block.K2 * (n - block_n) : 0);
        if (!b_is_copied) {
          const int64_t offset = batch_offset(p.b.batch, block.outer, block.inner) +
                                 2 * block.pair_begin * p.b.row + n * p.b.col;
          const PairSource source{
              element(p.b.data, p.b.dtype, offset), p.b.dtype, p.b.row, p.b.col, block.K, columns};
          pack_pairs(source, copy, padded, padded);
        }
        b = copy;
      }

      const int64_t c_offset =
          batch_offset(p.c_batch, block.outer, block.inner) + block.m_begin * p.c_row + n;
      void* c = in_slices ? nullptr : element(p.c, p.c_dtype, c_offset);
      PairTile tile{};
      tile.c_stride = in_slices ? p.N : in_place ? p.c_row : padded;
      float* const sums =
          in_slices
              ? p.partial +
                    ((slice * p.batch[0] * p.batch[1] + batch) * p.M + block.m_begin) * p.N + n
          : in_place ? static_cast<float*>(c)
                     : c_scratch;
      tile.last_lanes = columns - (padded - W);
      tile.a_stride = a.stride;
      tile.b_stride = 2 * padded;
      if (in_strips && strip_left == 0 && panel + kStripPanels <= block.panel_end &&
          panels.at(panel + kStripPanels) * W - n == kStripPanels * kPanelFloats) {
        [[maybe_unused]] const DotMode mode{};
        pair_strip({.a = a.a,
                    .b = b,
                    .c = strip,
                    .a_stride = a.pair,
                    .b_panel = 2 * all_pairs * padded,
                    .K2 = block.K2});
        strip_left = kStripPanels;
      }
      if (strip_left > 0) {
        std::memcpy(sums, strip + (kStripPanels - strip_left) * kPanelFloats,
                    static_cast<size_t>(columns) * sizeof(float));
        --strip_left;
      } else {
        [[maybe_unused]] const DotMode mode{};
        for (int64_t pair = 0; pair == 0 || pair < block.K2; pair += kPairsAtOnce) {
          tile.K2 = block.K2 - pair < kPairsAtOnce ? block.K2 - pair : kPairsAtOnce;
          tile.b = b + pair * tile.b_stride;
          tile.add_to_c = pair > 0;
          int64_t m = block.m_begin;
          for (int64_t t = block.tile_begin; t < block.tile_end; ++t) {
            const int64_t height = rows.at(t + 1) - m;
            tile.a = a.a + (m - block.m_begin) * a.row + pair * a.pair;
            tile.c = sums + (m - block.m_begin) * tile.c_stride;
            pair_kernel(static_cast<int>(height), panel_vectors, a_rows)(tile);
            m += height;
          }
        }
      }
      if (in_slices || (in_place && !has_epilogue)) continue;
      finish_bf16(e, c_offset, n, sums, tile.c_stride, block.m_end - block.m_begin, columns, c,
                  p.c_row, p.c_dtype, widened);
    }
  }
}

}  // namespace handmill::HM_ISA
