// Rows chosen by indices, and the gradient of that.
#include "kernels/gather/args.h"
#include "kernels/labels.h"
#include "kernels/lanes.h"

namespace handmill::HM_ISA {
namespace {

// Rows of a table beyond the L2 cache are on their way so many items before they are needed: 2048
// rows of 32 floats out of a million take 55 us instead of 100 us.
constexpr int64_t kAhead = 16;
constexpr int64_t kFarBytes = int64_t{1} << 20;
constexpr int64_t kMostFetched = 256;  // of an item; what follows, the CPU sees coming

// The row that an index names, outside [0, rows) if there is none.
HM_INLINE int64_t row_at(const TakeArgs& a, int64_t k) {
  const int64_t row = label_at(a.indices, a.index_type, k);
  return a.from_end && row < 0 && row >= -a.rows ? row + a.rows : row;
}

HM_INLINE void fetch_item(const TakeArgs& a, const char* x_o, int64_t k) {
  const int64_t row = row_at(a, k);
  if (row < 0 || row >= a.rows) return;
  const int64_t bytes = a.item_bytes < kMostFetched ? a.item_bytes : kMostFetched;
  for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(x_o + row * a.item_bytes + b);
}

}  // namespace

void take(const TakeArgs& a, Range blocks, void*) {
  const size_t item_bytes = static_cast<size_t>(a.item_bytes);
  const bool is_far = a.rows * a.item_bytes > kFarBytes;
  const int64_t blocks_per_outer = (a.num_indices + a.per_block - 1) / a.per_block;
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const int64_t o = block / blocks_per_outer;
    const Range items = items_of({block % blocks_per_outer, block % blocks_per_outer + 1},
                                 a.per_block, a.num_indices);
    const char* x_o = static_cast<const char*>(a.x) + o * a.rows * a.item_bytes;
    char* y_o = static_cast<char*>(a.y) + o * a.num_indices * a.item_bytes;
    for (int64_t k = items.begin; k < items.end; ++k) {
      if (is_far && k + kAhead < items.end) fetch_item(a, x_o, k + kAhead);
      const int64_t row = row_at(a, k);
      char* y_k = y_o + k * a.item_bytes;
      if (row < 0 || row >= a.rows) {
        std::memset(y_k, a.fill, item_bytes);
      } else if (item_bytes == sizeof(float)) {
        std::memcpy(y_k, x_o + row * a.item_bytes, sizeof(float));
      } else {
        std::memcpy(y_k, x_o + row * a.item_bytes, item_bytes);
      }
    }
  }
}

// A block owns a run of rows of y and looks at every index: no two blocks write one row, and the
// order of the sums is that of the indices.
void scatter_add(const ScatterAddArgs& a, Range blocks, void*) {
  const Range rows = items_of(blocks, a.rows_per_block, a.rows);
  if (rows.begin >= rows.end) return;
  for_each_vector(rows.begin * a.N, rows.end * a.N,
                  [&](int64_t i, auto lanes) { lanes.store(Vec::zero(), a.y + i); });
  for (int64_t k = 0; k < a.num_indices; ++k) {
    int64_t row = label_at(a.indices, a.index_type, k);
    if (a.from_end && row < 0 && row >= -a.rows) row += a.rows;
    if (row < rows.begin || row >= rows.end) continue;
    const float* dy_k = a.dy + k * a.N;
    float* y_r = a.y + row * a.N;
    for_each_vector(0, a.N, [&](int64_t n, auto lanes) {
      lanes.store(lanes.load(y_r + n) + lanes.load(dy_k + n), y_r + n);
    });
  }
}

// A block owns a run of rows of y and looks at every index, in their order.
void put_rows(const PutRowsArgs& a, Range blocks, void*) {
  const Range rows = items_of(blocks, a.rows_per_block, a.rows);
  for (int64_t k = 0; k < a.num_indices; ++k) {
    const int64_t row = label_at(a.indices, a.index_type, k);
    if (row < rows.begin || row >= rows.end) continue;
    std::memcpy(static_cast<char*>(a.y) + row * a.row_bytes,
                static_cast<const char*>(a.x) + k * a.row_bytes, static_cast<size_t>(a.row_bytes));
  }
}

void one_hot(const OneHotArgs& a, Range blocks, void*) {
  const Range items = items_of(blocks, a.per_block, a.size);
  if (items.begin >= items.end) return;
  for_each_vector(items.begin * a.depth, items.end * a.depth,
                  [&](int64_t i, auto lanes) { lanes.store(Vec::zero(), a.y + i); });
  for (int64_t k = items.begin; k < items.end; ++k) {
    const int64_t d = label_at(a.indices, a.index_type, k);
    if (d >= 0 && d < a.depth) a.y[k * a.depth + d] = 1.0f;
  }
}

}  // namespace handmill::HM_ISA
