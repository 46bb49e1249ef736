// What both directions of attention share: which keys a row sees, packed operands, small products.
#pragma once

#include "kernels/attention/args.h"
#include "kernels/matmul/micro.h"
#include "kernels/random/philox.h"
#include "kernels/types.h"
#include "simd/math.h"

namespace handmill::HM_ISA {

using Blocks = AttentionBlocks;

// Columns of a panel of a packed operand.
constexpr int64_t kAttentionPanel = kMatmulTile.vectors * Vec::width;
constexpr int64_t kTileRows = kMatmulTile.rows;
// The same for one row, whose sums wait for themselves where they are few.
constexpr int64_t kRowPanel = 8 * Vec::width;
static_assert(Blocks::kGradRows % kTileRows == 0 && Blocks::kRows % kTileRows == 0);

HM_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
HM_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
HM_INLINE int64_t whole_vectors(int64_t n) {
  return (n + Vec::width - 1) / Vec::width * Vec::width;
}

// One head of keys of one sample.
struct AttentionHead {
  const AttentionScores& a;
  int64_t b, k, G;

  HM_INLINE AttentionHead(const AttentionScores& args, int64_t index)
      : a(args), b(index / args.K), k(index % args.K), G(args.N / args.K) {}

  HM_INLINE int64_t rows() const { return a.T * G; }
  // The query of a row, and its head; divisions cost as much as a row of few keys.
  HM_INLINE int64_t query(int64_t row) const { return G == 1 ? row : row / G; }
  HM_INLINE int64_t head(int64_t row) const { return G == 1 ? k : k * G + row % G; }
  // The place of a row among (B, T, N).
  HM_INLINE int64_t place(int64_t row) const { return (b * a.T + query(row)) * a.N + head(row); }
  HM_INLINE int64_t key(int64_t j) const { return (b * a.S + j) * a.K + k; }
  // Where key j is read: of the row that was named, or the nearest there is.
  HM_INLINE int64_t source(int64_t j) const { return (row_of(j) * a.S + j) * a.K + k; }
  // Whether the keys j to j + 7 are read of one row.
  HM_INLINE bool is_run(int64_t j) const {
    if (a.rows == nullptr) return true;
    bool found = true;
    for (int64_t i = 1; i < 8; ++i) found = found && row_of(j + i) == row_of(j);
    return found;
  }
  HM_INLINE int64_t row_of(int64_t j) const {
    if (a.rows == nullptr) return b;
    const int64_t row = a.rows[b * a.S + j];
    return row < 0 ? 0 : row < a.B ? row : a.B - 1;
  }

  // The keys that a row sees but for those that a mask hides: one run of them.
  HM_INLINE Range seen(int64_t row) const {
    const int64_t p = (a.start != nullptr ? a.start[b] : 0) + query(row);
    int64_t begin = 0, end = a.S;
    if (a.lengths != nullptr) end = least(end, most(a.lengths[b], 0));
    if (a.causal) end = least(end, p + 1);
    if (a.window > 0) {
      begin = most(begin, p - a.window + 1);
      end = least(end, p + a.window);
    }
    const uint8_t* mask = mask_of(row);
    if (mask != nullptr && a.mask_stride[3] == 0 && *mask == 0) end = 0;
    return end > begin ? Range{begin, end} : Range{0, 0};
  }

  // What the mask says of the keys of a row, null where there is none.
  HM_INLINE const uint8_t* mask_of(int64_t row) const {
    if (a.mask == nullptr) return nullptr;
    const int64_t* s = a.mask_stride;
    return a.mask + b * s[0] + head(row) * s[1] + query(row) * s[2];
  }
};

// What the head after this one reads, fetched into L2 meanwhile, a row and a key at a time: they
// lie whole positions apart, which the hardware does not foresee.
class NextHead {
 public:
  HM_INLINE NextHead(const AttentionHead& head, int64_t index, bool is_there)
      : next_(head.a, is_there ? index : 0), is_there_(is_there) {}

  // of_row: arrays that are laid out as queries, with the numbers of a row.
  struct Rows {
    const float* x;
    int64_t width;
  };
  template <size_t kArrays>
  HM_INLINE void fetch(int64_t begin, int64_t end, const Rows (&of_row)[kArrays]) const {
    if (!is_there_) return;
    for (int64_t i = begin; i < least(end, next_.rows()); ++i) {
      const int64_t place = next_.place(i);
      for (const Rows& r : of_row) fetch_row(r.x + place * r.width, r.width);
      if (i >= next_.a.S) continue;
      const int64_t source = next_.source(i);
      fetch_row(next_.a.k + source * next_.a.H, next_.a.H);
      fetch_row(next_.a.v + source * next_.a.V, next_.a.V);
    }
  }

 private:
  HM_INLINE static void fetch_row(const float* x, int64_t width) {
    for (int64_t c = 0; c < width; c += 16) __builtin_prefetch(x + c, 0, 2);
  }

  AttentionHead next_;
  bool is_there_;
};

// The keys of a row within a block that begins at key `first`.
struct AttentionRow {
  int64_t begin, end;
  const uint8_t* mask;  // of the block's keys, null: all True

  AttentionRow() = default;
  HM_INLINE AttentionRow(const AttentionHead& head, int64_t row, int64_t first, int64_t size) {
    const Range seen = head.seen(row);
    begin = most(seen.begin - first, 0);
    end = least(seen.end - first, size);
    if (end <= begin) begin = end = 0;
    mask = head.a.mask_stride[3] == 0 ? nullptr : head.mask_of(row);
    if (mask != nullptr) mask += first;
  }

  // The keys j, j + 1, ... that it sees.
  HM_INLINE Mask sees(int64_t j) const {
    Mask m = first_lanes(most(0, least(end - j, Vec::width)));
    if (j < begin) m = m & ~first_lanes(least(begin - j, Vec::width));
    if (mask != nullptr && end > j) {
      m = m & (load_u8_n(mask + j, least(end - j, Vec::width)) > Vec::zero());
    }
    return m;
  }
};

// The keys that any row of a run sees; before them, beside them: nothing is read of the others.
struct AttentionKeys {
  int64_t first, size;         // the block
  bool hidden[Blocks::kKeys];  // of each key, where `some` are
  bool some = false;
  int64_t begin = 0, end = 0;  // within the block; empty: nobody sees any

  HM_INLINE AttentionKeys(const AttentionHead& head, Range rows, int64_t first_key)
      : first(first_key), size(least(Blocks::kKeys, head.a.S - first_key)) {
    begin = size;
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const AttentionRow r(head, row, first, size);
      if (r.end == 0) continue;
      begin = least(begin, r.begin);
      end = most(end, r.end);
    }
    if (end == 0) begin = 0;
    if (head.a.mask == nullptr || head.a.mask_stride[3] == 0 || end == 0) return;
    some = true;
    for (int64_t j = 0; j < Blocks::kKeys; ++j) hidden[j] = true;
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const AttentionRow r(head, row, first, size);
      for (int64_t j = r.begin; j < r.end; ++j) hidden[j] = hidden[j] && r.mask[j] == 0;
    }
  }

  HM_INLINE bool shows(int64_t j) const { return j < end && j >= begin && !(some && hidden[j]); }
};

// exp(x) for x <= 0; 0 below -87, where results would be subnormal, which cost a hundred cycles.
HM_INLINE Vec exp_of_difference(Vec x) {
  const Vec least_normal = Vec::broadcast(-87.0f);
  return select(x < least_normal, Vec::zero(), exp_normal(at_least(x, least_normal)));
}

// x: keys or values of all heads, of `width` numbers each.
// Rows: to[j * padded + c] = factor * x; what no row sees, and what fills up, is 0.
inline void pack_rows(const AttentionHead& head, const AttentionKeys& keys, const float* x,
                      int64_t width, float factor, float* to) {
  const int64_t padded = Blocks::padded(width), end = whole_vectors(keys.end);
  const Vec f = Vec::broadcast(factor);
  for (int64_t j = keys.begin / Vec::width * Vec::width; j < end; ++j) {
    float* row = to + j * padded;
    const bool shown = keys.shows(j);
    const float* from = shown ? x + head.source(keys.first + j) * width : x;
    for (int64_t c = 0; c < padded; c += Vec::width) {
      const int64_t n = most(0, least(width - c, Vec::width));
      (shown ? Vec::load_n(from + c, n) * f : Vec::zero()).store(row + c);
    }
  }
}

// One panel of P columns: to[c][j % P] = x, of the keys of a run, which is one of whole eights.
inline void pack_panel(const AttentionHead& head, const AttentionKeys& keys, const float* x,
                       int64_t width, Range run, int64_t P, float* to) {
  const int64_t stride = head.a.K * width;
  for (int64_t j = run.begin; j < run.end; j += 8) {
    float* panel = to + j % P;
    bool whole = j + 8 <= keys.end && j >= keys.begin;
    for (int64_t i = 0; whole && keys.some && i < 8; ++i) whole = !keys.hidden[j + i];
    int64_t c = 0;
    if (whole && head.is_run(keys.first + j)) {
      const float* from = x + head.source(keys.first + j) * width;
      for (; c + 8 <= width; c += 8) transpose_8x8(from + c, stride, panel + c * P, P);
    }
    for (int64_t i = 0; i < 8; ++i) {
      const bool shown = keys.shows(j + i);
      const float* from = shown ? x + head.source(keys.first + j + i) * width : x;
      for (int64_t d = c; d < width; ++d) panel[d * P + i] = shown ? from[d] : 0.0f;
    }
  }
}

// Columns: to[panel][c][j] = x, in panels of kAttentionPanel keys.
inline void pack_columns(const AttentionHead& head, const AttentionKeys& keys, const float* x,
                         int64_t width, float* to) {
  constexpr int64_t P = kAttentionPanel;
  const int64_t end = whole_vectors(keys.end);
  for (int64_t j = keys.begin / 8 * 8; j < end;) {
    const int64_t next = least((j / P + 1) * P, end);
    pack_panel(head, keys, x, width, {j, next}, P, to + j / P * P * width);
    j = next;
  }
}

// c (+)= a b for rows x columns sums of `depth` products; columns fill whole vectors, as do rows of
// b and c. Each sum goes over its products in order.
struct SmallProduct {
  const float *a, *b;
  float* c;
  int64_t a_stride, b_stride;
  int64_t b_panel;  // from one panel of kAttentionPanel columns of b to the next; 0: b lies in rows
  int64_t c_stride;
  int64_t rows, columns, depth;
  bool a_rows, add;  // a_rows: a[m * a_stride + k], else a[k * a_stride + m]
};

inline void multiply(const SmallProduct& p) {
  RegisterTile t{};
  t.a_stride = p.a_stride;
  t.b_stride = p.b_stride;
  t.c_stride = p.c_stride;
  t.K = p.depth;
  t.last_lanes = Vec::width;
  t.prefetch_mask = -1;
  t.add_to_c = p.add;
  // Four vectors as two and two: one of them alone waits for its own sums.
  int64_t step = kAttentionPanel, b_step = p.b_panel;
  if (p.b_panel == 0) {
    const int64_t widest = p.rows == 1 ? kRowPanel : kAttentionPanel;
    const int64_t panels = (p.columns + widest - 1) / widest;
    b_step = step = whole_vectors((p.columns + panels - 1) / panels);
  }
  for (int64_t n = 0, panel = 0; n < p.columns; n += step, panel += b_step) {
    const int vectors = static_cast<int>(least(step, p.columns - n) / Vec::width);
    for (int64_t m = 0; m < p.rows; m += kTileRows) {
      const int rows = static_cast<int>(least(kTileRows, p.rows - m));
      t.a = p.a + (p.a_rows ? m * p.a_stride : m);
      t.b = p.b + panel;
      t.c = p.c + m * p.c_stride + n;
      register_kernel(rows, vectors, p.a_rows, false, false)(t);
    }
  }
}

// What dropout makes of the weights of a row: use(j, which are left out).
struct AttentionDropout {
  Stream stream;
  uint32_t threshold;
  float words[Blocks::kKeys + 2 * kPhiloxWords];
  int64_t offset = 0;

  HM_INLINE explicit AttentionDropout(const AttentionScores& a)
      : stream(stream_of(a.seed_state)), threshold(a.threshold) {}

  // Makes the words of keys [first + begin, first + end) of a row.
  HM_INLINE void draw(const AttentionHead& head, int64_t row, int64_t first, int64_t begin,
                      int64_t end) {
    const AttentionScores& a = head.a;
    const int64_t item = ((head.b * a.N + head.head(row)) * a.T + head.query(row)) * a.S + first;
    const int64_t from = (item + begin) / kPhiloxWords * kPhiloxWords;
    for (int64_t w = from; w < item + end; w += kPhiloxWords) {
      make_words(
          stream, static_cast<uint64_t>(w) / 4, [](Words x) { return x; }, words + (w - from));
    }
    offset = item - from;
  }

  HM_INLINE Mask dropped(int64_t j) const {
    const VecI flip = VecI::broadcast(INT32_MIN);
    return (as_int(Vec::load(words + offset + j)) ^ flip) < (splat(threshold) ^ flip);
  }
};

}  // namespace handmill::HM_ISA
