// Attention with an online softmax: scores of a few rows and up to 256 keys at a time, never all.
#include "kernels/attention/parts.h"

namespace handmill::HM_ISA {
namespace {

// Memory of one thread.
struct Forward {
  float *columns, *rows, *sums, *largest, *total, *scores, *query;

  Forward(const AttentionScores& a, void* scratch) {
    const int64_t h = Blocks::padded(a.H), v = Blocks::padded(a.V);
    columns = static_cast<float*>(scratch);
    rows = columns + 320 * h;
    sums = rows + Blocks::kKeys * v;
    largest = sums + Blocks::kRows * v;
    total = largest + Blocks::kRows;
    scores = total + Blocks::kRows;
    query = scores + 8 * Blocks::kStride;
  }
};

// What a tile of rows has found so far, and what it sees in this block.
struct Tile {
  int64_t count, row, first, begin, end;  // keys [begin, end) of the block, in whole vectors
  float *scores, *sums, *largest, *total;
};

// Scores become weights, of which the largest so far is 1 at most; what the rows have gathered is
// scaled to that. All rows go through each step together, for each waits for the one before.
template <bool kDropout>
HM_INLINE void soften(const AttentionHead& head, const AttentionRow (&rows)[kTileRows],
                      const Tile& t, int64_t width) {
  constexpr int W = Vec::width;
  constexpr float kNever = -__builtin_inff();
  const Vec never = Vec::broadcast(kNever);
  float now[kTileRows], factor[kTileRows <= W ? W : kTileRows] = {};
  for (int64_t r = 0; r < t.count; ++r) {
    float* scores = t.scores + r * Blocks::kStride;
    const AttentionRow& row = rows[r];
    // Between these every key is seen.
    const bool plain = row.mask == nullptr && row.end > 0;
    const int64_t from = plain ? most(t.begin, (row.begin + W - 1) / W * W) : t.end;
    const int64_t to = plain ? most(from, row.end / W * W) : t.end;
    Vec top = never;
    const auto hide = [&](int64_t j) {
      const Vec x = select(row.sees(j), Vec::load(scores + j), never);
      x.store(scores + j);
      top = max(top, x);
    };
    for (int64_t j = t.begin; j < least(from, t.end); j += W) hide(j);
    for (int64_t j = from; j < to; j += W) top = max(top, Vec::load(scores + j));
    for (int64_t j = to; j < t.end; j += W) hide(j);
    const float found = reduce_max(top), before = t.largest[r];
    now[r] = found > before || found != found ? found : before;
    // Where nothing was seen the difference is 0 / 0, and what there is, 0.
    factor[r] = before - now[r];
  }
  for (int64_t r = 0; r < t.count; r += W) {
    exp_of_difference(Vec::load(factor + r)).store(factor + r);
  }
  for (int64_t r = 0; r < t.count; ++r) {
    float* scores = t.scores + r * Blocks::kStride;
    if (now[r] == kNever) {
      for (int64_t j = t.begin; j < t.end; j += W) Vec::zero().store(scores + j);
      continue;
    }
    const Vec shift = Vec::broadcast(now[r]), kept = Vec::broadcast(head.a.kept);
    Vec sum = Vec::zero();
    if constexpr (kDropout) {
      AttentionDropout dropout(head.a);
      dropout.draw(head, t.row + r, t.first, t.begin, t.end);
      for (int64_t j = t.begin; j < t.end; j += W) {
        const Vec p = exp_of_difference(Vec::load(scores + j) - shift);
        sum = sum + p;
        select(dropout.dropped(j), Vec::zero(), p * kept).store(scores + j);
      }
    } else {
      for (int64_t j = t.begin; j < t.end; j += W) {
        const Vec p = exp_of_difference(Vec::load(scores + j) - shift);
        sum = sum + p;
        p.store(scores + j);
      }
    }
    if (now[r] != t.largest[r] && t.largest[r] != kNever) {
      t.total[r] *= factor[r];
      for (int64_t c = 0; c < width; c += W) {
        float* sums = t.sums + r * width + c;
        (Vec::load(sums) * Vec::broadcast(factor[r])).store(sums);
      }
    }
    t.largest[r] = now[r];
    t.total[r] += reduce_add(sum);
  }
}

// Whether a few rows read keys and values where they lie: packed, these would be written and read
// once more than they are used. What lies beside them and is hidden has to stay unread.
HM_INLINE bool reads_in_place(const AttentionHead& head, const AttentionKeys& keys, int64_t rows) {
  return rows <= kTileRows && !keys.some && head.a.rows == nullptr && head.a.V % Vec::width == 0;
}

// Scores of a few rows by keys [seen.begin, seen.end) of the block, a panel at a time, which stays
// in L1.
void score_keys(const AttentionHead& head, const AttentionKeys& keys, Range seen, int64_t rows,
                const Forward& memory) {
  const AttentionScores& a = head.a;
  const int64_t panel = rows == 1 ? kRowPanel : kAttentionPanel;
  for (int64_t n = seen.begin; n < seen.end;) {
    const int64_t start = n / panel * panel, end = least(start + panel, seen.end);
    pack_panel(head, keys, a.k, a.H, {most(start, keys.begin / 8 * 8), end}, panel, memory.columns);
    multiply({.a = memory.query,
              .b = memory.columns + (n - start),
              .c = memory.scores + n,
              .a_stride = Blocks::padded(a.H),
              .b_stride = panel,
              .b_panel = 0,
              .c_stride = Blocks::kStride,
              .rows = rows,
              .columns = end - n,
              .depth = a.H,
              .a_rows = true,
              .add = false});
    n = end;
  }
}

void attend_rows(const AttentionArgs& args, const AttentionHead& head, Range rows,
                 const NextHead& next, const Forward& memory) {
  constexpr int W = Vec::width;
  const AttentionScores& a = args.of;
  const int64_t h = Blocks::padded(a.H), v = Blocks::padded(a.V), count = rows.end - rows.begin;
  for (int64_t i = 0; i < count * v; ++i) memory.sums[i] = 0.0f;
  for (int64_t i = 0; i < count; ++i) {
    memory.largest[i] = -__builtin_inff();
    memory.total[i] = 0.0f;
  }
  for (int64_t first = 0; first < a.S; first += Blocks::kKeys) {
    const AttentionKeys keys(head, rows, first);
    if (keys.end == 0) continue;
    const bool in_place = reads_in_place(head, keys, count);
    if (!in_place) {
      pack_columns(head, keys, a.k, a.H, memory.columns);
      pack_rows(head, keys, a.v, a.V, 1.0f, memory.rows);
    }
    for (int64_t t = 0; t < count; t += kTileRows) {
      const int64_t in_tile = least(kTileRows, count - t);
      if (first == 0) next.fetch(rows.begin + t, rows.begin + t + in_tile, {{a.q, a.H}});
      int64_t begin = keys.size, end = 0;
      AttentionRow seen[kTileRows];
      for (int64_t r = 0; r < in_tile; ++r) {
        const AttentionRow& row = seen[r] = {head, rows.begin + t + r, first, keys.size};
        if (row.end == 0) continue;
        begin = least(begin, row.begin);
        end = most(end, row.end);
      }
      if (end == 0) continue;
      begin = begin / W * W;
      end = whole_vectors(end);
      for (int64_t r = 0; r < in_tile; ++r) {
        const float* q = a.q + head.place(rows.begin + t + r) * a.H;
        for (int64_t c = 0; c < h; c += W) {
          const int64_t n = most(0, least(a.H - c, W));
          (Vec::load_n(q + c, n) * Vec::broadcast(a.scale)).store(memory.query + r * h + c);
        }
      }
      if (in_place) {
        score_keys(head, keys, {begin, end}, in_tile, memory);
      } else {
        const int64_t panel = begin / kAttentionPanel;
        multiply({.a = memory.query,
                  .b = memory.columns + panel * kAttentionPanel * a.H,
                  .c = memory.scores + panel * kAttentionPanel,
                  .a_stride = h,
                  .b_stride = kAttentionPanel,
                  .b_panel = kAttentionPanel * a.H,
                  .c_stride = Blocks::kStride,
                  .rows = in_tile,
                  .columns = end - panel * kAttentionPanel,
                  .depth = a.H,
                  .a_rows = true,
                  .add = false});
      }
      const Tile tile{in_tile,
                      rows.begin + t,
                      first,
                      begin,
                      end,
                      memory.scores,
                      memory.sums + t * v,
                      memory.largest + t,
                      memory.total + t};
      if (a.seed_state != nullptr) {
        soften<true>(head, seen, tile, v);
      } else {
        soften<false>(head, seen, tile, v);
      }
      const int64_t from = in_place ? keys.begin : begin, to = in_place ? keys.end : end;
      multiply({.a = memory.scores + from,
                .b = in_place ? a.v + head.source(first + from) * a.V : memory.rows + from * v,
                .c = memory.sums + t * v,
                .a_stride = Blocks::kStride,
                .b_stride = in_place ? a.K * a.V : v,
                .b_panel = 0,
                .c_stride = v,
                .rows = in_tile,
                .columns = whole_vectors(a.V),
                .depth = to - from,
                .a_rows = true,
                .add = true});
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    const int64_t place = head.place(rows.begin + i);
    const bool empty = memory.largest[i] == -__builtin_inff();
    const float inverse = empty ? 0.0f : 1.0f / memory.total[i];
    float* y = args.y + place * a.V;
    for (int64_t c = 0; c < a.V; c += W) {
      const Vec sum = Vec::load(memory.sums + i * v + c) * Vec::broadcast(inverse);
      sum.store_n(y + c, least(a.V - c, W));
    }
    args.stats[2 * place] = empty ? 0.0f : memory.largest[i];
    args.stats[2 * place + 1] = inverse;
  }
}

}  // namespace

void attention(const AttentionArgs& a, Range blocks, void* scratch) {
  const Forward memory(a.of, scratch);
  const int64_t rows = a.of.T * (a.of.N / a.of.K);
  const int64_t parts = (rows + Blocks::kRows - 1) / Blocks::kRows;
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const AttentionHead head(a.of, block / parts);
    const int64_t begin = block % parts * Blocks::kRows;
    const NextHead next(head, block / parts + 1, block + parts < blocks.end);
    attend_rows(a, head, {begin, least(begin + Blocks::kRows, rows)}, next, memory);
  }
}

}  // namespace handmill::HM_ISA
