// Reads B along its rows, a few at a time, with the sums in L1. Walking down a panel of B instead
// takes a new page every few hundred bytes where rows are long, which the hardware prefetcher does
// not follow: 1 x 4096 x 4096 ran at half the speed of memory.
#include "kernels/matmul_row.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;
constexpr int64_t kColumns = 1024;  // sums at a time: 4 KiB
constexpr int kRows = 8;            // rows of B at a time

// sums[n] += the products of rows [0, kCount) with their a, in order.
template <int kCount>
void add_rows(const RowProduct& p, int64_t k, const float* b, float* sums, int64_t columns) {
  Vec a[kCount];
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) a[i] = Vec::broadcast(p.a[(k + i) * p.a_stride]);
  b += k * p.b_stride;
  const int64_t b_stride = p.b_stride;
  int64_t n = 0;
  for (; n + W <= columns; n += W) {
    Vec sum = Vec::load(sums + n);
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) sum = fma(a[i], Vec::load(b + i * b_stride + n), sum);
    sum.store(sums + n);
  }
  const int64_t rest = columns - n;
  if (rest > 0) {
    Vec sum = Vec::load(sums + n);
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) sum = fma(a[i], Vec::load_n(b + i * b_stride + n, rest), sum);
    sum.store(sums + n);
  }
}

}  // namespace

void row_product(const RowProduct& p) {
  alignas(64) float sums[kColumns];
  for (int64_t first = 0; first < p.N; first += kColumns) {
    const int64_t columns = p.N - first < kColumns ? p.N - first : kColumns;
    for (int64_t n = 0; n < columns; n += W) Vec::zero().store(sums + n);
    int64_t k = 0;
    for (; k + kRows <= p.K; k += kRows) add_rows<kRows>(p, k, p.b + first, sums, columns);
    for (; k < p.K; ++k) add_rows<1>(p, k, p.b + first, sums, columns);
    float* c = p.c + first;
    for (int64_t n = 0; n < columns; n += W) {
      const int64_t lanes = columns - n < W ? columns - n : W;
      Vec sum = Vec::load(sums + n);
      if (p.add_to_c) sum = sum + Vec::load_n(c + n, lanes);
      if (p.bias != nullptr) sum = sum + Vec::load_n(p.bias + first + n, lanes);
      if (p.relu) sum = at_least(sum, Vec::zero());
      sum.store_n(c + n, lanes);
    }
  }
}

}  // namespace handmill::HM_ISA
