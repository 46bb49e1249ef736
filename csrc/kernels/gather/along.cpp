// One element of each row by an index of its own, and the gradient of that.
#include <cstring>

#include "kernels/gather/args.h"
#include "kernels/labels.h"
#include "kernels/lanes.h"

namespace handmill::HM_ISA {
namespace {

// The row that index p names, outside [0, rows) if there is none.
template <class Args>
HM_INLINE int64_t row_at(const Args& a, int64_t p) {
  const int64_t row = label_at(a.indices, a.index_type, p);
  return row < 0 && row >= -a.rows ? row + a.rows : row;
}

template <class T>
void take_items(const TakeAlongArgs& a, Range items) {
  const T* const x = static_cast<const T*>(a.x);
  T* const y = static_cast<T*>(a.y);
  T missing;
  std::memset(&missing, a.fill, sizeof(T));
  const int64_t each = a.count * a.inner;
  int64_t o = items.begin / each, within = items.begin % each, i = within % a.inner;
  for (int64_t p = items.begin; p < items.end; ++p) {
    const int64_t row = row_at(a, p);
    y[p] = row < 0 || row >= a.rows ? missing : x[(o * a.rows + row) * a.inner + i];
    if (++i == a.inner) i = 0;
    if (++within == each) {
      within = 0;
      ++o;
    }
  }
}

}  // namespace

void take_along(const TakeAlongArgs& a, Range blocks, void*) {
  const Range items = items_of(blocks, a.per_block, a.size);
  if (items.begin >= items.end) return;
  switch (a.item_bytes) {
    case 1:
      return take_items<uint8_t>(a, items);
    case 2:
      return take_items<uint16_t>(a, items);
    case 4:
      return take_items<uint32_t>(a, items);
    default:
      return take_items<uint64_t>(a, items);
  }
}

void add_along(const AddAlongArgs& a, Range blocks, void*) {
  const Range outer = items_of(blocks, a.per_block, a.outer);
  const int64_t each = a.rows * a.inner;
  for_each_vector(outer.begin * each, outer.end * each,
                  [&](int64_t n, auto lanes) { lanes.store(Vec::zero(), a.y + n); });
  for (int64_t o = outer.begin; o < outer.end; ++o) {
    for (int64_t k = 0; k < a.count; ++k) {
      const int64_t begin = (o * a.count + k) * a.inner;
      for (int64_t i = 0; i < a.inner; ++i) {
        const int64_t row = row_at(a, begin + i);
        if (row >= 0 && row < a.rows) a.y[(o * a.rows + row) * a.inner + i] += a.dy[begin + i];
      }
    }
  }
}

}  // namespace handmill::HM_ISA
