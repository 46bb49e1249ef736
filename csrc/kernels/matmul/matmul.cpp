// Matrix products: C = epilogue(A B), float32, one or two batch axes. Equation, layouts
// and the meaning of a block: args.h.
//
// A sum over k runs in chunks: one fused multiply-add chain a chunk, in the order of k, added to c
// in the order of the chunks. So a result depends on K and its cuts only (other ones where M is 1
// and rows of B are long): not on M, N, the tiles,
// the layouts (kTransposed excepted) or, among levels with fma, on the level.
#include "kernels/matmul/dot.h"
#include "kernels/matmul/micro.h"
#include "kernels/matmul/narrow.h"
#include "kernels/matmul/packed_row.h"
#include "kernels/matmul/parts.h"
#include "kernels/matmul/row.h"
#include "kernels/matmul/sparse.h"
#include "kernels/matmul/update.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;
constexpr int64_t kJoinedRows = 192;  // of A, whose chunk of 256 columns then stays in L2

// With an update: the tile of the gradient that is computed and not applied.
struct GradientTile {
  PendingTile pending;
  alignas(64) float floats[24 * W];  // the largest register tile
};

// The part of C that one block computes, and its place.
struct Block {
  int64_t outer, inner;            // batch indices
  int64_t tile_begin, tile_end;    // row tiles
  int64_t panel_begin, panel_end;  // panels
  int64_t offset;                  // of C[outer, inner, 0, 0]
  float* c;                        // that element, or the partial sums of the slice
  int64_t c_row;
  int64_t columns;   // of the panels, whole vectors
  float* b_scratch;  // the panels of B of this block, when copied
  float* a_scratch;
  bool b_is_copied;        // by the block before
  RowsSeen* rows_seen;     // of A
  GradientTile* gradient;  // with an update
};

RegisterFinish finish_of(const MatmulEpilogue& e) {
  const bool relu = e.activation == Activation::relu && e.residual == nullptr;
  const bool activation = e.activation != Activation::none && !relu;
  const bool gate = e.grad == ActivationGrad::relu && e.residual == nullptr && !activation;
  const bool grad = e.grad != ActivationGrad::none && !gate;
  const bool rest = e.residual != nullptr || activation || grad;
  return {e.scale != nullptr, e.bias != nullptr, relu, gate, rest};
}

// What the epilogue reads of each element; of two operands the latter, which is older.
const float* read_last(const MatmulEpilogue& e) {
  return floats(e.grad != ActivationGrad::none ? e.grad_of : e.residual);
}

// Computes a tile of the gradient, which belongs at `offset`, and keeps it with those before it
// while there is room: whole rows, which lie without gaps in the parameter. Where a row does not
// end with a vector, applying it alone costs masked loads and stores (33 x 10 with Adam: 0.79
// against 0.58 us).
void collect_tile(const MatmulArgs& p, RegisterTile tile, RegisterKernel kernel, int64_t rows,
                  int64_t offset, GradientTile& gradient) {
  PendingTile& pending = gradient.pending;
  constexpr int64_t kRoom = sizeof(gradient.floats) / sizeof(float);
  int64_t held = pending.rows == 0 ? 0 : (pending.vectors - 1) * W + pending.last_lanes;
  if (pending.offset + held != offset || held + rows * p.N > kRoom) {
    apply_tile(p.update, pending);
    held = 0;
  }
  if (held == 0) pending = {gradient.floats, offset, 0, 1, 0, 0};
  tile.c = gradient.floats + held;
  tile.c_stride = p.N;
  kernel(tile);
  held += rows * p.N;
  pending.vectors = ceil_div(held, W);
  pending.last_lanes = held - (pending.vectors - 1) * W;
}

// Computes a tile of the gradient, which belongs at `offset`, and applies the one before it.
void update_tile(const MatmulArgs& p, RegisterTile tile, RegisterKernel kernel, int rows,
                 int vectors, bool a_rows, bool masked, int64_t offset, GradientTile& gradient) {
  tile.c = gradient.floats;
  tile.c_stride = vectors * W;
  PendingTile& pending = gradient.pending;
  const bool fits = !masked && pending.last_lanes == W && pending.rows * pending.vectors <= tile.K;
  const UpdatingKernel both =
      fits ? updating_kernel(p.update.rule, rows, vectors, a_rows) : nullptr;
  if (both != nullptr) {
    both(tile, offset, p.update, pending);
  } else {
    apply_tile(p.update, pending);
    kernel(tile);
  }
  pending = {gradient.floats, offset, p.c_row, rows, vectors, tile.last_lanes};
}

// c (+)= the products over k in [k_begin, k_end), which is chunk `chunk`.
// b_copy: where the rows of the chunk go when B is copied.
void multiply_chunk(const MatmulArgs& p, const Block& block, int64_t chunk, int64_t k_begin,
                    int64_t k_end, float* b_copy, bool add_to_c, RegisterFinish finish) {
  const int64_t K = k_end - k_begin;
  const Split rows(p.M, ceil_div(p.M, p.tile_rows));
  const int64_t vectors = ceil_div(p.N, W);
  const Split panels(vectors, ceil_div(vectors, p.panel_vectors));

  const int64_t m_begin = rows.at(block.tile_begin), m_end = rows.at(block.tile_end);
  const float* a = floats(p.a.data) + batch_offset(p.a.batch, block.outer, block.inner) +
                   m_begin * p.a.row + k_begin * p.a.col;
  const float* const a_source = a;
  bool a_rows = false;
  int64_t a_stride = p.a.col;
  switch (p.a_layout) {
    case MatmulALayout::kRows:
      a_rows = true;
      a_stride = p.a.row;
      break;
    case MatmulALayout::kColumns:
      break;
    case MatmulALayout::kCopyRows:
      a_rows = true;
      a_stride = odd_lines(K);
      if (p.a.col == 1) {
        copy_rows(a, p.a.row, block.a_scratch, a_stride, m_end - m_begin, K);
      } else {
        for (int64_t m = 0; m < m_end - m_begin; ++m) {
          const float* a_m = a + m * p.a.row;
          for (int64_t k = 0; k < K; ++k) block.a_scratch[m * a_stride + k] = a_m[k * p.a.col];
        }
      }
      a = block.a_scratch;
      break;
    case MatmulALayout::kCopyColumns:
      a_stride = odd_lines(m_end - m_begin);
      copy_rows(a, p.a.col, block.a_scratch, a_stride, K, m_end - m_begin);
      a = block.a_scratch;
      break;
  }
  const int64_t a_step = a_rows ? a_stride : 1;
  if (block.gradient != nullptr && !a_rows && p.N <= kMostNarrowColumns && p.b.col == 1 &&
      p.b_layout != MatmulBLayout::kPacked) {
    const float* dy = floats(p.b.data) + k_begin * p.b.row;
    update_narrow({a, dy, a_stride, p.b.row, m_end - m_begin, p.N, K, m_begin * p.N}, p.update);
    return;
  }

  const float* b = floats(p.b.data) + batch_offset(p.b.batch, block.outer, block.inner);
  const int64_t block_n = panels.at(block.panel_begin) * W;
  if (p.by_rows_of_b) {
    const int64_t limit = panels.at(block.panel_end) * W;
    RowProduct row{};
    row.a = a;
    row.b = b + k_begin * p.b.row + block_n;
    row.c = block.c + block_n;
    row.scale = finish.scale ? floats(p.epilogue.scale) + block_n : nullptr;
    row.bias = finish.bias ? floats(p.epilogue.bias) + block_n : nullptr;
    row.a_stride = a_rows ? 1 : a_stride;
    row.b_stride = p.b.row;
    row.N = (limit < p.N ? limit : p.N) - block_n;
    row.K = K;
    row.add_to_c = add_to_c;
    row.relu = finish.relu;
    row_product(row);
    if (finish.gate || finish.rest) {
      apply_epilogue(p.epilogue, block.offset + block_n, p.c_row, row.c, p.c_row, 1, row.N,
                     finish.relu);
    }
    return;
  }
  const int32_t* sparse = p.b_may_be_sparse ? sparse_flags(b, p.K, vectors) : nullptr;
  if (sparse != nullptr && any_sparse(sparse, block.panel_begin, block.panel_end)) {
    multiply_sparse(p,
                    {.a = a,
                     .a_source = a_source,
                     .a_row = a_rows ? a_stride : 1,
                     .a_col = a_rows ? 1 : a_stride,
                     .m_begin = m_begin,
                     .m_end = m_end,
                     .chunk = chunk,
                     .k_begin = k_begin,
                     .k_end = k_end,
                     .b = b,
                     .flags = sparse,
                     .panels = panels,
                     .panel_begin = block.panel_begin,
                     .panel_end = block.panel_end,
                     .c = block.c,
                     .c_row = block.c_row,
                     .offset = block.offset,
                     .add_to_c = add_to_c,
                     .finish = finish},
                    *block.rows_seen);
  }
  for (int64_t panel = block.panel_begin; panel < block.panel_end; ++panel) {
    if (sparse != nullptr && sparse[panel] != 0) continue;
    const int64_t v_begin = panels.at(panel);
    const int panel_vectors = static_cast<int>(panels.at(panel + 1) - v_begin);
    const int64_t n = v_begin * W;
    const int64_t columns = p.N - n < panel_vectors * W ? p.N - n : panel_vectors * W;
    // Narrow panels take more rows, for as many sums at a time: 4 x 2 vectors wait for their own.
    const int64_t most_rows = panel_vectors <= 2 && p.tile_rows < kMatmulTile.narrow_rows
                                  ? kMatmulTile.narrow_rows
                                  : p.tile_rows;
    const int64_t num_tiles = ceil_div(m_end - m_begin, most_rows);
    const Split tiles(m_end - m_begin, num_tiles);
    const int low_rows = static_cast<int>(tiles.quotient);
    const int first_rows = low_rows + (tiles.remainder > 0);
    RegisterTile tile{};
    tile.last_lanes = columns - (panel_vectors - 1) * W;
    bool masked = false;
    RegisterKernel first = nullptr;  // the first tile, where it copies or fetches B
    // A copy that no other block reads makes room for the next panel's, so that it stays in cache.
    float* const copy = p.blocks_m > 1 ? b_copy + K * (n - block_n) : b_copy;
    tile.b_stride = panel_vectors * W;
    switch (p.b_layout) {
      case MatmulBLayout::kPacked:
        tile.b = b + p.K * n + k_begin * tile.b_stride;
        break;
      case MatmulBLayout::kCopy:
        tile.b = copy;
        if (block.b_is_copied) break;
        if (p.b.col == 1 && a_rows && block.gradient == nullptr) {
          first = storing_kernel(first_rows, panel_vectors, tile.last_lanes != W);
        }
        if (first == nullptr) {
          copy_panel(b + k_begin * p.b.row + n * p.b.col, p.b.row, p.b.col, K, columns,
                     panel_vectors, copy);
        }
        break;
      default:
        tile.b = b + k_begin * p.b.row + n;
        tile.b_stride = p.b.row;
        masked = tile.last_lanes != W;
        if (p.fetches_in_place && a_rows && block.gradient == nullptr && block.tile_begin == 0) {
          first = fetching_kernel(first_rows, panel_vectors, masked);
        }
        break;
    }
    tile.a_stride = a_stride;
    tile.c_stride = block.c_row;
    tile.K = K;
    // The first panel brings A into L2; the hardware prefetcher stops at the end of every row.
    tile.prefetch_mask = panel == block.panel_begin && K >= 64 ? 15 : -1;
    tile.scale = finish.scale ? floats(p.epilogue.scale) + n : nullptr;
    tile.bias = finish.bias ? floats(p.epilogue.bias) + n : nullptr;
    tile.add_to_c = add_to_c;
    tile.relu = finish.relu;
    const float* gate = finish.gate ? floats(p.epilogue.grad_of) + block.offset + n : nullptr;
    const float* read_after = finish.gate || finish.rest ? read_last(p.epilogue) : nullptr;
    if (read_after != nullptr) read_after += block.offset + n;
    tile.gate_stride = p.c_row;
    const float* next_b = nullptr;
    int64_t next_step = 0;
    if (p.fetches_next_panel && p.b_layout == MatmulBLayout::kPacked &&
        panel + 1 < block.panel_end) {
      const int64_t stride = (panels.at(panel + 2) - panels.at(panel + 1)) * W;
      next_b = b + p.K * panels.at(panel + 1) * W + k_begin * stride;
      next_step = K * stride / num_tiles;
    }
    const bool half = tile.last_lanes <= W / 2;
    const RegisterKernel tall =
        tiles.remainder > 0 ? register_kernel(low_rows + 1, panel_vectors, a_rows, masked, half)
                            : nullptr;
    const RegisterKernel low = register_kernel(low_rows, panel_vectors, a_rows, masked, half);
    int64_t m = m_begin;
    for (int64_t i = 0; i < num_tiles; ++i) {
      const int64_t height = low_rows + (i < tiles.remainder ? 1 : 0);
      tile.a = a + (m - m_begin) * a_step;
      tile.c = block.c + m * block.c_row + n;
      tile.gate = gate == nullptr ? nullptr : gate + m * tile.gate_stride;
      tile.read_after = read_after == nullptr ? nullptr : read_after + m * tile.gate_stride;
      tile.next_b = next_b + i * next_step;
      tile.next_b_end = tile.next_b + next_step;
      const RegisterKernel kernel = i < tiles.remainder ? tall : low;
      if (block.gradient != nullptr && vectors == panel_vectors && tile.last_lanes != W) {
        collect_tile(p, tile, kernel, height, m * block.c_row, *block.gradient);
      } else if (block.gradient != nullptr) {
        update_tile(p, tile, kernel, static_cast<int>(height), panel_vectors, a_rows, masked,
                    m * block.c_row + n, *block.gradient);
      } else if (first != nullptr) {
        RegisterTile in_place = tile;
        in_place.b = b + k_begin * p.b.row + n;
        in_place.b_stride = p.b.row;
        in_place.b_copy = copy;
        in_place.rows_ahead = p.rows_ahead;
        first(in_place);
        first = nullptr;
      } else {
        kernel(tile);
      }
      if (finish.rest) {
        apply_epilogue(p.epilogue, block.offset + m * p.c_row + n, p.c_row, tile.c, p.c_row, height,
                       columns, finish.relu);
      }
      m += height;
    }
  }
}

// c = the products over k in [k_begin, k_end) by dot products.
void multiply_dots(const MatmulArgs& p, const Block& block, int64_t k_begin, int64_t k_end,
                   RegisterFinish finish) {
  const Split rows(p.M, ceil_div(p.M, p.tile_rows));
  const int64_t vectors = ceil_div(p.N, W);
  const Split panels(vectors, ceil_div(vectors, p.panel_vectors));
  const int64_t m = rows.at(block.tile_begin), n = panels.at(block.panel_begin) * W;
  const int64_t n_limit = panels.at(block.panel_end) * W;
  DotProducts d{};
  d.a =
      floats(p.a.data) + batch_offset(p.a.batch, block.outer, block.inner) + m * p.a.row + k_begin;
  d.b =
      floats(p.b.data) + batch_offset(p.b.batch, block.outer, block.inner) + n * p.b.col + k_begin;
  d.c = block.c + m * block.c_row + n;
  d.scale = finish.scale ? floats(p.epilogue.scale) + n : nullptr;
  d.bias = finish.bias ? floats(p.epilogue.bias) + n : nullptr;
  d.a_stride = p.a.row;
  d.b_stride = p.b.col;
  d.c_stride = block.c_row;
  d.M = rows.at(block.tile_end) - m;
  d.N = (n_limit < p.N ? n_limit : p.N) - n;
  d.K = k_end - k_begin;
  d.relu = finish.relu;
  dot_products(d);
  if (finish.gate || finish.rest) {
    apply_epilogue(p.epilogue, block.offset + m * p.c_row + n, p.c_row, d.c, p.c_row, d.M, d.N,
                   finish.relu);
  }
}

void multiply_block(const MatmulArgs& p, const Block& block, int64_t slice, RegisterFinish finish) {
  float* b_copy = block.b_scratch;
  const Split chunks(p.K, p.chunks);
  const Split slices(p.chunks, p.slices);
  const int64_t begin = slices.at(slice), end = slices.at(slice + 1);
  const RegisterFinish last = p.slices == 1 ? finish : RegisterFinish{};
  if (p.b_layout == MatmulBLayout::kTransposed) {
    multiply_dots(p, block, chunks.at(begin), chunks.at(end), last);
    return;
  }
  if (p.M == 1 && p.b_layout == MatmulBLayout::kPacked && block.gradient == nullptr) {
    const float* a = floats(p.a.data) + batch_offset(p.a.batch, block.outer, block.inner);
    const float* b = floats(p.b.data) + batch_offset(p.b.batch, block.outer, block.inner);
    const int64_t vectors = ceil_div(p.N, W);
    const int32_t* sparse = p.b_may_be_sparse ? sparse_flags(b, p.K, vectors) : nullptr;
    if (sparse == nullptr || !any_sparse(sparse, block.panel_begin, block.panel_end)) {
      multiply_packed_row({.a = a,
                           .a_stride = p.a.col,
                           .b = b,
                           .c = block.c,
                           .epilogue = &p.epilogue,
                           .offset = block.offset,
                           .finish = last,
                           .panels = Split(vectors, ceil_div(vectors, p.panel_vectors)),
                           .panel_begin = block.panel_begin,
                           .panel_end = block.panel_end,
                           .chunks = chunks,
                           .chunk_begin = begin,
                           .chunk_end = end,
                           .K = p.K,
                           .N = p.N});
      return;
    }
  }
  for (int64_t i = begin; i < end; ++i) {
    multiply_chunk(p, block, i, chunks.at(i), chunks.at(i + 1), b_copy, i > begin,
                   i == end - 1 ? last : RegisterFinish{});
    if (p.b_layout == MatmulBLayout::kCopy && p.blocks_m > 1) {
      b_copy += (chunks.at(i + 1) - chunks.at(i)) * block.columns;
    }
  }
}

}  // namespace

// scratch: the copied panels of B, one chunk of one with blocks_m == 1, else all that a slice
// needs, for the block after it to find; then A (see plan_scratch in core/lower/matmul/plan.cpp).
void matmul(const MatmulArgs& p, Range blocks, void* scratch) {
  if (p.M == 0 || p.N == 0) return;
  const Split tiles(ceil_div(p.M, p.tile_rows), p.blocks_m);
  const int64_t vectors = ceil_div(p.N, W), num_panels = ceil_div(vectors, p.panel_vectors);
  const Split panels(num_panels, p.blocks_n), panel_starts(vectors, num_panels);
  const RegisterFinish finish = finish_of(p.epilogue);
  GradientTile gradient;
  gradient.pending = {};
  RowsSeen rows_seen{};
  Block block{};
  block.rows_seen = &rows_seen;
  if (p.update.rule != UpdateRule::kNone) block.gradient = &gradient;
  block.b_scratch = static_cast<float*>(scratch);
  block.a_scratch = block.b_scratch + p.b_scratch / static_cast<int64_t>(sizeof(float));
  int64_t copied = -1;
  for (int64_t i = blocks.begin; i < blocks.end; ++i) {
    const int64_t row = i % p.blocks_m;
    const int64_t with_same_b = i / p.blocks_m;
    const int64_t column = with_same_b % p.blocks_n;
    const int64_t slice = with_same_b / p.blocks_n % p.slices;
    const int64_t batch = with_same_b / p.blocks_n / p.slices;
    block.outer = batch / p.batch[1];
    block.inner = batch % p.batch[1];
    block.offset = batch_offset(p.c_batch, block.outer, block.inner);
    // Neighbours that share packed panels are computed as one, while A stays in cache.
    int64_t joined = 1;
    if (p.b_layout == MatmulBLayout::kPacked && p.a_layout == MatmulALayout::kRows) {
      while (row + joined < p.blocks_m && i + joined < blocks.end &&
             (tiles.at(row + joined + 1) - tiles.at(row)) * p.tile_rows <= kJoinedRows) {
        ++joined;
      }
    }
    i += joined - 1;
    block.tile_begin = tiles.at(row);
    block.tile_end = tiles.at(row + joined);
    block.panel_begin = panels.at(column);
    block.panel_end = panels.at(column + 1);
    block.columns = (panel_starts.at(block.panel_end) - panel_starts.at(block.panel_begin)) * W;
    block.b_is_copied = copied == with_same_b;
    copied = with_same_b;
    if (p.slices == 1) {
      block.c = static_cast<float*>(p.c) + block.offset;
      block.c_row = p.c_row;
    } else {
      block.c = p.partial + (slice * p.batch[0] * p.batch[1] + batch) * p.M * p.N;
      block.c_row = p.N;
    }
    multiply_block(p, block, slice, finish);
  }
  apply_tile(p.update, gradient.pending);
}

}  // namespace handmill::HM_ISA
