// Softmax over the products of all rows of two matrices, of which a few are there at a time.
//
// A block goes over the columns of s in groups of panels. Products run through the register tiles
// of matmul, so each element of s is one chain over D; what is summed over columns is summed group
// by group, in their order. Scratch of a thread: rows_per_block rows of s, one group wide.
#include "kernels/contrast/args.h"
#include "kernels/contrast/width.h"
#include "kernels/lanes.h"
#include "kernels/matmul/micro.h"
#include "kernels/matmul/parts.h"
#include "simd/math.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;
constexpr int64_t kGroupPanels = contrast_panels(kMatmulTile);
constexpr int64_t kGroupColumns = kGroupPanels * kMatmulTile.vectors * W;

// c (+)= a b for M rows, along which K elements of a lie, and the columns of one panel of b.
// `whole`: what lies behind the last column of b up to a whole vector can be read, and is zero.
void multiply_panel(RegisterTile tile, int64_t M, int vectors, bool whole) {
  const int64_t most = vectors <= 2 ? kMatmulTile.narrow_rows : kMatmulTile.rows;
  const Split tiles(M, ceil_div(M, most));
  const bool masked = !whole && tile.last_lanes != W, half = tile.last_lanes <= W / 2;
  tile.prefetch_mask = -1;
  const float* a = tile.a;
  float* c = tile.c;
  for (int64_t m = 0, i = 0; m < M; ++i) {
    const int64_t rows = tiles.quotient + (i < tiles.remainder ? 1 : 0);
    tile.a = a + m * tile.a_stride;
    tile.c = c + m * tile.c_stride;
    register_kernel(static_cast<int>(rows), vectors, true, masked, half)(tile);
    m += rows;
  }
}

// The columns of s that one group holds.
struct Group {
  int64_t begin, size;
};

// Calls f(rows, group) with s of the rows and the group's columns in scratch, group after group.
// Elements of the diagonal are -inf, if they are skipped.
template <class F>
HM_INLINE void for_each_group(const RowProducts& p, Range rows, float* s, F f) {
  if (p.M == 0) return;
  const int64_t vectors = ceil_div(p.M, W);
  const int64_t num_panels = ceil_div(vectors, p.panel_vectors);
  const Split panels(vectors, num_panels);
  for (int64_t first = 0; first < num_panels; first += kGroupPanels) {
    const int64_t last = first + kGroupPanels < num_panels ? first + kGroupPanels : num_panels;
    const int64_t begin = panels.at(first) * W;
    const int64_t limit = panels.at(last) * W;
    const Group group{begin, (limit < p.M ? limit : p.M) - begin};
    for (int64_t panel = first; panel < last; ++panel) {
      const int64_t v = panels.at(panel), n = v * W;
      const int panel_vectors = static_cast<int>(panels.at(panel + 1) - v);
      const int64_t columns = p.M - n < panel_vectors * W ? p.M - n : panel_vectors * W;
      RegisterTile tile{};
      tile.a = p.x + rows.begin * p.D;
      tile.b = p.y_panels + p.D * n;
      tile.c = s + (n - begin);
      tile.a_stride = p.D;
      tile.b_stride = panel_vectors * W;
      tile.c_stride = kGroupColumns;
      tile.K = p.D;
      tile.last_lanes = columns - (panel_vectors - 1) * W;
      multiply_panel(tile, rows.end - rows.begin, panel_vectors, true);
    }
    if (p.skips_diagonal) {
      for (int64_t i = rows.begin; i < rows.end; ++i) {
        if (i >= begin && i < begin + group.size) {
          s[(i - rows.begin) * kGroupColumns + i - begin] = -__builtin_inff();
        }
      }
    }
    f(group);
  }
}

// z (+)= w y for the rows of a block and the columns of a group.
void add_products(const ProductSoftmaxArgs& a, Range rows, Group group, const float* w) {
  const int64_t D = a.products.D, vectors = ceil_div(D, W);
  if (D == 0) return;
  const int64_t num_panels = ceil_div(vectors, kMatmulTile.vectors);
  const Split panels(vectors, num_panels);
  for (int64_t panel = 0; panel < num_panels; ++panel) {
    const int64_t v = panels.at(panel), n = v * W;
    const int panel_vectors = static_cast<int>(panels.at(panel + 1) - v);
    const int64_t columns = D - n < panel_vectors * W ? D - n : panel_vectors * W;
    RegisterTile tile{};
    tile.a = w;
    tile.b = a.y + group.begin * D + n;
    tile.c = a.z + rows.begin * D + n;
    tile.a_stride = kGroupColumns;
    tile.b_stride = D;
    tile.c_stride = D;
    tile.K = group.size;
    tile.last_lanes = columns - (panel_vectors - 1) * W;
    tile.add_to_c = group.begin > 0;
    multiply_panel(tile, rows.end - rows.begin, panel_vectors, false);
  }
}

HM_INLINE float largest(const float* s, int64_t n) {
  const float lowest = -__builtin_inff();
  Vec best = Vec::broadcast(lowest);
  for_each_vector(
      0, n, [&](int64_t j, auto lanes) { best = at_least(best, lanes.load_or(s + j, lowest)); });
  return reduce_max(best);
}

}  // namespace

void product_logsumexp(const ProductLogSumExpArgs& a, Range blocks, void* scratch) {
  const RowProducts& p = a.products;
  const float lowest = -__builtin_inff();
  float* const s = static_cast<float*>(scratch);
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const Range rows = items_of({block, block + 1}, p.rows_per_block, p.N);
    float top[kMostContrastRows], sum[kMostContrastRows];
    for (int64_t i = 0; i < rows.end - rows.begin; ++i) {
      top[i] = lowest;
      sum[i] = 0.0f;
    }
    for_each_group(p, rows, s, [&](Group group) {
      for (int64_t i = 0; i < rows.end - rows.begin; ++i) {
        const float* s_i = s + i * kGroupColumns;
        const float here = largest(s_i, group.size);
        const float before = top[i];
        if (here > before) top[i] = here;
        const Vec shift = Vec::broadcast(top[i] == lowest ? 0.0f : top[i]);
        Vec part = Vec::zero();
        for_each_vector(0, group.size, [&](int64_t j, auto lanes) {
          part = part + lanes.keep(exp(lanes.load(s_i + j) - shift), 0.0f);
        });
        const float kept = before == top[i] || before == lowest
                               ? sum[i]
                               : sum[i] * first_lane(exp(Vec::broadcast(before) - shift));
        sum[i] = kept + reduce_add(part);
      }
    });
    const int64_t count = rows.end - rows.begin;
    for_each_vector(0, count, [&](int64_t i, auto lanes) {
      const Vec height = lanes.load(top + i);
      const Vec shift = select(height == Vec::broadcast(lowest), Vec::zero(), height);
      lanes.store(log(lanes.load(sum + i)) + shift, a.sums + rows.begin + i);
    });
  }
}

void product_softmax(const ProductSoftmaxArgs& a, Range blocks, void* scratch) {
  const RowProducts& p = a.products;
  float* const s = static_cast<float*>(scratch);
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const Range rows = items_of({block, block + 1}, p.rows_per_block, p.N);
    if (p.M == 0) {
      for_each_vector(rows.begin * p.D, rows.end * p.D,
                      [&](int64_t n, auto lanes) { lanes.store(Vec::zero(), a.z + n); });
      continue;
    }
    for_each_group(p, rows, s, [&](Group group) {
      for (int64_t i = rows.begin; i < rows.end; ++i) {
        float* w_i = s + (i - rows.begin) * kGroupColumns;
        const bool by_row = a.row_factor != nullptr;
        const Vec factor = Vec::broadcast(by_row ? a.row_factor[i] : 0.0f);
        const Vec shift = Vec::broadcast(by_row ? a.row_shift[i] : 0.0f);
        for_each_vector(0, group.size, [&](int64_t j, auto lanes) {
          const Vec s_ij = lanes.load(w_i + j);
          Vec w = Vec::zero();
          if (by_row) w = exp(s_ij - shift) * factor;
          if (a.column_factor != nullptr) {
            const Vec column_shift = lanes.load(a.column_shift + group.begin + j);
            w = w + exp(s_ij - column_shift) * lanes.load(a.column_factor + group.begin + j);
          }
          lanes.store(w, w_i + j);
        });
        if (p.skips_diagonal && i >= group.begin && i < group.begin + group.size) {
          w_i[i - group.begin] = 0.0f;  // also where a shift is -inf, too
        }
      }
      add_products(a, rows, group, s);
    });
  }
}

}  // namespace handmill::HM_ISA
