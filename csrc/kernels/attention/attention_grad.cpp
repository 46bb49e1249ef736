// The gradients of attention. Weights are computed again from scores and what was kept of the rows.
#include "kernels/attention/parts.h"

namespace handmill::HM_ISA {
namespace {

// Memory of one thread.
struct Backward {
  float *key_columns, *value_columns, *keys, *dk, *dv, *query, *dy, *dq, *weights, *dscores;

  Backward(const AttentionScores& a, void* scratch) {
    const int64_t h = Blocks::padded(a.H), v = Blocks::padded(a.V);
    constexpr int64_t R = Blocks::kGradRows;
    key_columns = static_cast<float*>(scratch);
    value_columns = key_columns + 320 * h;
    keys = value_columns + 320 * v;
    dk = keys + Blocks::kKeys * h;
    dv = dk + Blocks::kKeys * h;
    query = dv + Blocks::kKeys * v;
    dy = query + R * h;
    dq = dy + R * v;
    weights = dq + R * h;
    dscores = weights + R * Blocks::kStride;
  }
};

struct Part {
  int64_t begin, end;  // of the keys that the rows of a register tile see, in whole vectors
};

// Scores become weights, and what the gradient says of weights what it says of scores.
HM_INLINE void weigh(const AttentionHead& head, const AttentionRow& row, int64_t index,
                     int64_t first, Part part, const float* stats, float dot, float* weights,
                     float* dscores, AttentionDropout* dropout) {
  constexpr int W = Vec::width;
  if (stats[1] == 0.0f) {
    for (int64_t j = part.begin; j < part.end; j += W) {
      Vec::zero().store(weights + j);
      Vec::zero().store(dscores + j);
    }
    return;
  }
  const Vec shift = Vec::broadcast(stats[0]), inverse = Vec::broadcast(stats[1]);
  const Vec d = Vec::broadcast(dot), kept = Vec::broadcast(head.a.kept);
  if (dropout != nullptr) dropout->draw(head, index, first, part.begin, part.end);
  const bool plain = row.mask == nullptr;
  for (int64_t j = part.begin; j < part.end; j += W) {
    const Vec p = exp_of_difference(Vec::load(weights + j) - shift) * inverse;
    Vec dp = Vec::load(dscores + j);
    Vec q = p;
    if (dropout != nullptr) {
      const Mask dropped = dropout->dropped(j);
      q = select(dropped, Vec::zero(), p * kept);
      dp = select(dropped, Vec::zero(), dp * kept);
    }
    Vec ds = p * (dp - d);
    if (!(plain && j >= row.begin && j + W <= row.end)) {
      const Mask seen = row.sees(j);
      q = select(seen, q, Vec::zero());
      ds = select(seen, ds, Vec::zero());
    }
    q.store(weights + j);
    ds.store(dscores + j);
  }
}

// Copies rows of queries and gradients; those that see nothing are 0, whatever stands there.
void copy_queries(const AttentionGradArgs& args, const AttentionHead& head, int64_t row,
                  int64_t count, const Backward& memory, float* dots) {
  constexpr int W = Vec::width;
  const AttentionScores& a = args.of;
  const int64_t h = Blocks::padded(a.H), v = Blocks::padded(a.V);
  for (int64_t r = 0; r < count; ++r) {
    const int64_t place = head.place(row + r);
    const bool empty = args.stats[2 * place + 1] == 0.0f;
    for (int64_t c = 0; c < h; c += W) {
      const int64_t n = empty ? 0 : most(0, least(a.H - c, W));
      (Vec::load_n(a.q + place * a.H + c, n) * Vec::broadcast(a.scale))
          .store(memory.query + r * h + c);
    }
    Vec dot = Vec::zero();
    for (int64_t c = 0; c < v; c += W) {
      const int64_t n = empty ? 0 : most(0, least(a.V - c, W));
      const Vec dy = Vec::load_n(args.dy + place * a.V + c, n);
      dy.store(memory.dy + r * v + c);
      dot = fma(dy, Vec::load_n(args.y + place * a.V + c, n), dot);
    }
    dots[r] = reduce_add(dot);
  }
}

void clear_rows(const AttentionGradArgs& args, const AttentionHead& head, int64_t row,
                int64_t count) {
  const int64_t H = args.of.H;
  for (int64_t r = row; r < row + count; ++r) {
    float* dq = args.dq + head.place(r) * H;
    for (int64_t c = 0; c < H; c += Vec::width) {
      Vec::zero().store_n(dq + c, least(H - c, Vec::width));
    }
  }
}

// What the rows [row, row + count) add to the gradients of a block of keys, and get from it; of the
// first block they take it.
void add_rows(const AttentionGradArgs& args, const AttentionHead& head, const AttentionKeys& keys,
              int64_t row, int64_t count, const NextHead& next, const Backward& memory) {
  constexpr int W = Vec::width;
  constexpr int64_t P = kAttentionPanel, stride = Blocks::kStride;
  const AttentionScores& a = args.of;
  const int64_t h = Blocks::padded(a.H), v = Blocks::padded(a.V);
  const int64_t tiles = (count + kTileRows - 1) / kTileRows;
  Part parts[Blocks::kGradRows / kTileRows];
  int64_t begin = keys.size, end = 0;
  for (int64_t t = 0; t < tiles; ++t) {
    Part& part = parts[t] = {keys.size, 0};
    for (int64_t r = t * kTileRows; r < least((t + 1) * kTileRows, count); ++r) {
      const AttentionRow seen(head, row + r, keys.first, keys.size);
      if (seen.end == 0) continue;
      part.begin = least(part.begin, seen.begin);
      part.end = most(part.end, seen.end);
    }
    part.begin = part.end == 0 ? 0 : part.begin / W * W;
    part.end = whole_vectors(part.end);
    if (part.end == 0) continue;
    begin = least(begin, part.begin);
    end = most(end, part.end);
  }
  const bool is_first = keys.first == 0;
  if (end == 0) {
    if (is_first) clear_rows(args, head, row, count);
    return;
  }
  float dots[Blocks::kGradRows];
  copy_queries(args, head, row, count, memory, dots);
  for (int64_t t = 0; t < tiles; ++t) {
    const Part part = parts[t];
    const int64_t from = t * kTileRows, rows = least(kTileRows, count - from);
    if (is_first) {
      next.fetch(row + from, row + from + rows, {{a.q, a.H}, {args.dy, a.V}, {args.y, a.V}});
    }
    if (part.end == 0) {
      if (is_first) clear_rows(args, head, row + from, rows);
      continue;
    }
    const int64_t panel = part.begin / P;
    float* weights = memory.weights + from * stride;
    float* dscores = memory.dscores + from * stride;
    multiply({.a = memory.query + from * h,
              .b = memory.key_columns + panel * P * a.H,
              .c = weights + panel * P,
              .a_stride = h,
              .b_stride = P,
              .b_panel = P * a.H,
              .c_stride = stride,
              .rows = rows,
              .columns = part.end - panel * P,
              .depth = a.H,
              .a_rows = true,
              .add = false});
    multiply({.a = memory.dy + from * v,
              .b = memory.value_columns + panel * P * a.V,
              .c = dscores + panel * P,
              .a_stride = v,
              .b_stride = P,
              .b_panel = P * a.V,
              .c_stride = stride,
              .rows = rows,
              .columns = part.end - panel * P,
              .depth = a.V,
              .a_rows = true,
              .add = false});
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t index = row + from + r;
      const AttentionRow seen(head, index, keys.first, keys.size);
      const float* stats = args.stats + 2 * head.place(index);
      if (a.seed_state != nullptr) {
        AttentionDropout dropout(a);
        weigh(head, seen, index, keys.first, part, stats, dots[from + r], weights + r * stride,
              dscores + r * stride, &dropout);
      } else {
        weigh(head, seen, index, keys.first, part, stats, dots[from + r], weights + r * stride,
              dscores + r * stride, nullptr);
      }
      // Products over rows take tiles of keys that may reach beyond what these rows see.
      static_assert(kTileRows <= W && W <= Blocks::kLine);
      float* both[] = {weights + r * stride, dscores + r * stride};
      for (float* x : both) {
        if (part.begin > 0) Vec::zero().store(x + part.begin - W);
        Vec::zero().store(x + part.end);
      }
    }
    multiply({.a = dscores + part.begin,
              .b = memory.keys + part.begin * h,
              .c = memory.dq,
              .a_stride = stride,
              .b_stride = h,
              .b_panel = 0,
              .c_stride = h,
              .rows = rows,
              .columns = whole_vectors(a.H),
              .depth = part.end - part.begin,
              .a_rows = true,
              .add = false});
    for (int64_t r = 0; r < rows; ++r) {
      float* dq = args.dq + head.place(row + from + r) * a.H;
      for (int64_t c = 0; c < a.H; c += W) {
        const int64_t n = least(a.H - c, W);
        const Vec found = Vec::load(memory.dq + r * h + c);
        (is_first ? found : Vec::load_n(dq + c, n) + found).store_n(dq + c, n);
      }
    }
  }
  for (int64_t j = begin; j < least(end, keys.end); j += kTileRows) {
    const int64_t size = least(kTileRows, least(end, keys.end) - j);
    int64_t low = tiles, high = 0;  // the tiles of rows that see any of these keys
    for (int64_t t = 0; t < tiles; ++t) {
      if (parts[t].end <= j || parts[t].begin >= j + size) continue;
      low = least(low, t);
      high = t + 1;
    }
    if (high == 0) continue;
    const int64_t from = low * kTileRows, to = least(high * kTileRows, count);
    // A tile between them that sees none of these keys holds anything.
    for (int64_t t = low; t < high; ++t) {
      if (parts[t].end > j && parts[t].begin < j + size) continue;
      for (int64_t r = t * kTileRows; r < least((t + 1) * kTileRows, count); ++r) {
        for (int64_t i = 0; i < size; ++i) {
          memory.weights[r * stride + j + i] = memory.dscores[r * stride + j + i] = 0.0f;
        }
      }
    }
    SmallProduct p{.a = memory.weights + from * stride + j,
                   .b = memory.dy + from * v,
                   .c = memory.dv + j * v,
                   .a_stride = stride,
                   .b_stride = v,
                   .b_panel = 0,
                   .c_stride = v,
                   .rows = size,
                   .columns = whole_vectors(a.V),
                   .depth = to - from,
                   .a_rows = false,
                   .add = true};
    multiply(p);
    p.a = memory.dscores + from * stride + j;
    p.b = memory.query + from * h;
    p.c = memory.dk + j * h;
    p.b_stride = p.c_stride = h;
    p.columns = whole_vectors(a.H);
    multiply(p);
  }
}

void store_keys(const float* from, int64_t padded, int64_t width, int64_t size, float* to,
                int64_t stride) {
  for (int64_t j = 0; j < size; ++j) {
    for (int64_t c = 0; c < width; c += Vec::width) {
      Vec::load(from + j * padded + c).store_n(to + j * stride + c, least(width - c, Vec::width));
    }
  }
}

}  // namespace

void attention_grad(const AttentionGradArgs& args, Range blocks, void* scratch) {
  const AttentionScores& a = args.of;
  const Backward memory(a, scratch);
  const int64_t h = Blocks::padded(a.H), v = Blocks::padded(a.V);
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const AttentionHead head(a, block);
    const NextHead next(head, block + 1, block + 1 < blocks.end);
    if (a.S == 0) clear_rows(args, head, 0, head.rows());
    for (int64_t first = 0; first < a.S; first += Blocks::kKeys) {
      const AttentionKeys keys(head, {0, head.rows()}, first);
      for (int64_t i = 0; i < keys.size * h; ++i) memory.dk[i] = 0.0f;
      for (int64_t i = 0; i < keys.size * v; ++i) memory.dv[i] = 0.0f;
      if (keys.end > 0) {
        pack_columns(head, keys, a.k, a.H, memory.key_columns);
        pack_rows(head, keys, a.k, a.H, a.scale, memory.keys);
        pack_columns(head, keys, a.v, a.V, memory.value_columns);
        for (int64_t row = 0; row < head.rows(); row += Blocks::kGradRows) {
          const int64_t count = least(Blocks::kGradRows, head.rows() - row);
          add_rows(args, head, keys, row, count, next, memory);
        }
      } else if (first == 0) {
        clear_rows(args, head, 0, head.rows());
      }
      store_keys(memory.dk, h, a.H, keys.size, args.dk + head.key(first) * a.H, a.K * a.H);
      store_keys(memory.dv, v, a.V, keys.size, args.dv + head.key(first) * a.V, a.K * a.V);
    }
  }
}

}  // namespace handmill::HM_ISA
