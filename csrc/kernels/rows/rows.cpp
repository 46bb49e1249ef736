// Gradients of the rows of a table that a step used, summed by row, and the update of these rows.
// A row has one owner, which adds in the order of the positions: the same bits for any threads.
#include <cstring>

#include "kernels/labels.h"
#include "kernels/lanes.h"
#include "kernels/optimizer/apply_update.h"
#include "kernels/rows/args.h"

namespace handmill::HM_ISA {
namespace {

constexpr int kDigitBits = 11;  // counters of 8 KiB
constexpr int64_t kAhead = 16;  // rows that are fetched before their turn

// The u of `at` up to the last one that is in use; what is left over has -1.
HM_INLINE int64_t rows_in_use(const int64_t* at, int64_t size) {
  while (size > 0 && at[size - 1] < 0) --size;
  return size;
}

// The part of `size` rows that belongs to some of the blocks: one run, so that threads do not fetch
// ahead what others write.
HM_INLINE Range part_of(int64_t size, Range blocks, int64_t all_blocks) {
  return {size * blocks.begin / all_blocks, size * blocks.end / all_blocks};
}

HM_INLINE void fetch_row(const float* row, int64_t N) {
  constexpr int64_t kLine = 16, kMost = 16 * kLine;
  for (int64_t n = 0; n < (N < kMost ? N : kMost); n += kLine) __builtin_prefetch(row + n);
}

}  // namespace

// By counting, digit after digit from the lowest on; a key holds a row and, below, a position.
void sort_rows(const SortRowsArgs& a, Range, void*) {
  uint64_t *keys = a.keys, *sorted = a.other_keys;
  int64_t count = 0;
  for (int64_t k = 0; k < a.num_indices; ++k) {
    int64_t row = label_at(a.indices, a.index_type, k);
    if (a.from_end && row < 0 && row >= -a.rows) row += a.rows;
    if (row < 0 || row >= a.rows) continue;
    keys[count++] = static_cast<uint64_t>(row) << 32 | static_cast<uint64_t>(k);
  }
  int bits = 0;
  while (bits < 32 && (a.rows - 1) >> bits > 0) ++bits;
  const int passes = (bits + kDigitBits - 1) / kDigitBits;
  const int digit_bits = passes == 0 ? 0 : (bits + passes - 1) / passes;
  const uint64_t mask = (uint64_t{1} << digit_bits) - 1;
  for (int pass = 0; pass < passes; ++pass) {
    const int shift = 32 + pass * digit_bits;
    uint32_t next[1 << kDigitBits] = {};
    for (int64_t i = 0; i < count; ++i) ++next[keys[i] >> shift & mask];
    uint32_t before = 0;
    for (uint64_t digit = 0; digit <= mask; ++digit) {
      const uint32_t here = next[digit];
      next[digit] = before;
      before += here;
    }
    for (int64_t i = 0; i < count; ++i) sorted[next[keys[i] >> shift & mask]++] = keys[i];
    uint64_t* swapped = keys;
    keys = sorted;
    sorted = swapped;
  }
  int64_t found = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = static_cast<int64_t>(keys[i] >> 32);
    a.order[i] = static_cast<int32_t>(keys[i] & 0xffffffff);
    if (i > 0 && row == a.at[found - 1]) continue;
    a.first[found] = static_cast<int32_t>(i);
    a.at[found++] = row;
  }
  for (int64_t u = found; u < a.num_indices; ++u) {
    a.first[u] = static_cast<int32_t>(count);
    a.at[u] = -1;
  }
  a.first[a.num_indices] = static_cast<int32_t>(count);
}

void sum_rows(const SumRowsArgs& a, Range blocks, void*) {
  const int64_t used = rows_in_use(a.at, a.num_indices);
  const Range rows = part_of(used, blocks, a.blocks);
  for (int64_t u = rows.begin; u < rows.end; ++u) {
    const int64_t begin = a.first[u], end = a.first[u + 1];
    float* y_u = a.y + u * a.N;
    for_each_vector(0, a.N, [&](int64_t n, auto lanes) {
      Vec sum = Vec::zero();
      for (int64_t i = begin; i < end; ++i) sum = sum + lanes.load(a.dy + a.order[i] * a.N + n);
      lanes.store(sum, y_u + n);
    });
  }
  const Range rest = part_of(a.num_indices - used, blocks, a.blocks);
  for_each_vector((used + rest.begin) * a.N, (used + rest.end) * a.N,
                  [&](int64_t n, auto lanes) { lanes.store(Vec::zero(), a.y + n); });
}

void update_rows(const UpdateRowsArgs& a, Range blocks, void*) {
  const Range rows = part_of(rows_in_use(a.at, a.num_updates), blocks, a.blocks);
  for (int64_t u = rows.begin; u < rows.end; ++u) {
    // A table beyond all caches answers after 100 ns and more: the rows to come are on their way.
    const int64_t ahead = u + kAhead < rows.end ? a.at[u + kAhead] : -1;
    if (ahead >= 0 && ahead < a.rows) {
      for (int32_t i = 0; i < a.num_arrays; ++i) fetch_row(a.arrays[i] + ahead * a.N, a.N);
    }
    const int64_t row = a.at[u];
    if (row >= 0 && row < a.rows) apply_update(a.update, a.g + u * a.N, row * a.N, a.N);
  }
}

void update_table(const UpdateTableArgs& a, Range blocks, void* scratch) {
  const Range rows = items_of(blocks, a.rows_per_block, a.rows);
  float* gradient = static_cast<float*>(scratch);
  std::memset(gradient, 0, static_cast<size_t>(a.rows_per_piece * a.N) * sizeof(float));
  int64_t u = 0;
  for (int64_t end = a.num_updates; u < end;) {  // the first one in these rows
    const int64_t middle = (u + end) / 2;
    if (a.at[middle] >= 0 && a.at[middle] < rows.begin) {
      u = middle + 1;
    } else {
      end = middle;
    }
  }
  const size_t row_bytes = static_cast<size_t>(a.N) * sizeof(float);
  for (int64_t row = rows.begin; row < rows.end; row += a.rows_per_piece) {
    const int64_t left = rows.end - row;
    const int64_t count = left < a.rows_per_piece ? left : a.rows_per_piece;
    const int64_t first = u;
    for (; u < a.num_updates && a.at[u] >= 0 && a.at[u] < row + count; ++u) {
      std::memcpy(gradient + (a.at[u] - row) * a.N, a.g + u * a.N, row_bytes);
    }
    apply_update(a.update, gradient, row * a.N, count * a.N);
    for (int64_t v = first; v < u; ++v) {
      std::memset(gradient + (a.at[v] - row) * a.N, 0, row_bytes);
    }
  }
}

}  // namespace handmill::HM_ISA
