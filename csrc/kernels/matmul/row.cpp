// Reads B along its rows, a few at a time, with the sums in L1. Walking down a panel of B instead
// takes a new page every few hundred bytes where rows are long, which the hardware prefetcher does
// not follow: 1 x 4096 x 4096 ran at half the speed of memory. Vectors of B are read from where
// they are aligned: large arrays of NumPy start 16 bytes into a page, and a vector that crosses two
// lines of the cache counts twice (1 x 1024 x 1024: 92 us, aligned 59).
#include "kernels/matmul/row.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;
constexpr int64_t kColumns = 4096;  // sums at a time: 16 KiB
// Rows of B at a time, with eight vectors of each in turn. Fewer rows read memory slower, fewer
// vectors the caches: eight by one and four by four took 55 and 50 us (1 x 1024 x 1024), 254 and
// 253 (1 x 2048 x 2048), 2170 and 2420 (1 x 4096 x 4096); eight by eight takes 50, 228 and 2170.
constexpr int kRows = 8;

// A row of B from `lead` columns on, and the sums from there on, are aligned.
struct Columns {
  float* sums;
  int64_t lead, count;
};

template <int kCount, int kVectors>
HM_INLINE void add_vectors(const Vec* a, const float* b, int64_t b_stride, float* sums) {
  Vec sum[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) sum[v] = Vec::load(sums + v * W);
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      sum[v] = fma(a[i], Vec::load(b + i * b_stride + v * W), sum[v]);
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) sum[v].store(sums + v * W);
}

template <int kCount>
HM_INLINE void add_some(const Vec* a, const float* b, int64_t b_stride, float* sums, int64_t n) {
  Vec sum = Vec::load_n(sums, n);
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) sum = fma(a[i], Vec::load_n(b + i * b_stride, n), sum);
  sum.store_n(sums, n);
}

// sums[n] += the products of rows [k, k + kCount) with their a, in order.
template <int kCount>
void add_rows(const RowProduct& p, int64_t k, const float* b, const Columns& columns) {
  Vec a[kCount];
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) a[i] = Vec::broadcast(p.a[(k + i) * p.a_stride]);
  const int64_t b_stride = p.b_stride, count = columns.count;
  float* const sums = columns.sums;
  b += k * b_stride;
  int64_t n = columns.lead;
  if (n > 0) add_some<kCount>(a, b, b_stride, sums, n);
  for (; n + 8 * W <= count; n += 8 * W) add_vectors<kCount, 8>(a, b + n, b_stride, sums + n);
  if (n + 4 * W <= count) {
    add_vectors<kCount, 4>(a, b + n, b_stride, sums + n);
    n += 4 * W;
  }
  for (; n + W <= count; n += W) add_vectors<kCount, 1>(a, b + n, b_stride, sums + n);
  if (n < count) add_some<kCount>(a, b + n, b_stride, sums + n, count - n);
}

// Floats from `address` to the next whole vector in memory.
int64_t to_alignment(const float* address) {
  return static_cast<int64_t>(-(reinterpret_cast<uintptr_t>(address) / sizeof(float)) % W);
}

}  // namespace

void row_product(const RowProduct& p) {
  alignas(64) float storage[kColumns + 2 * W];
  int64_t first = 0;
  while (first < p.N) {
    const int64_t left = p.N - first;
    int64_t lead = to_alignment(p.b + first);
    if (lead > left) lead = left;
    const int64_t count = left - lead < kColumns + W ? left : lead + kColumns;
    const int64_t skipped = lead == 0 ? 0 : W - lead;
    const Columns columns{storage + skipped, lead, count};
    for (int64_t n = 0; n < skipped + count; n += W) Vec::zero().store(storage + n);
    int64_t k = 0;
    for (; k + kRows <= p.K; k += kRows) add_rows<kRows>(p, k, p.b + first, columns);
    for (; k < p.K; ++k) add_rows<1>(p, k, p.b + first, columns);
    float* c = p.c + first;
    for (int64_t n = 0; n < count; n += W) {
      const int64_t lanes = count - n < W ? count - n : W;
      Vec sum = Vec::load_n(columns.sums + n, lanes);
      if (p.add_to_c) sum = sum + Vec::load_n(c + n, lanes);
      if (p.scale != nullptr) sum = sum * Vec::load_n(p.scale + first + n, lanes);
      if (p.bias != nullptr) sum = sum + Vec::load_n(p.bias + first + n, lanes);
      if (p.relu) sum = at_least(sum, Vec::zero());
      sum.store_n(c + n, lanes);
    }
    first += count;
  }
}

}  // namespace handmill::HM_ISA
