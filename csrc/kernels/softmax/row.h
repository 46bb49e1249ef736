// One row of a softmax, shared by softmax.cpp and loss.cpp.
#pragma once

#include "kernels/lanes.h"
#include "simd/math.h"

namespace handmill::HM_ISA {

// Sums of long rows are cut into chunks of this many vectors, whose sums are added in order.
constexpr int64_t kSumChunk = 32;

// sum over n of term(n, lanes), lanes past the end left out.
template <class F>
HM_INLINE float sum_row(int64_t N, F term) {
  Vec total = Vec::zero();
  for (int64_t begin = 0; begin < N; begin += kSumChunk * Vec::width) {
    const int64_t end = begin + kSumChunk * Vec::width;
    Vec part = Vec::zero();
    for_each_vector(begin, end < N ? end : N,
                    [&](int64_t n, auto lanes) { part = part + lanes.keep(term(n, lanes), 0.0f); });
    total = total + part;
  }
  return reduce_add(total);
}

// The largest x[n], NaN left out: whoever asks takes exp(x - max) next, which brings it back.
HM_INLINE float row_max(const float* x, int64_t N) {
  const float lowest = -__builtin_inff();
  Vec best[4] = {Vec::broadcast(lowest), Vec::broadcast(lowest), Vec::broadcast(lowest),
                 Vec::broadcast(lowest)};
  int64_t n = 0;
  for (; n + 4 * Vec::width <= N; n += 4 * Vec::width) {
    for (int j = 0; j < 4; ++j) best[j] = at_least(best[j], Vec::load(x + n + j * Vec::width));
  }
  for_each_vector(n, N, [&](int64_t i, auto lanes) {
    best[0] = at_least(best[0], lanes.load_or(x + i, lowest));
  });
  return reduce_max(at_least(at_least(best[0], best[1]), at_least(best[2], best[3])));
}

struct RowExp {
  float max, sum;
};

// e[n] = exp(x[n] - max), and their sum. e may be x. A row of -inf gives NaN, as NumPy does.
HM_INLINE RowExp exp_row(const float* x, float* e, int64_t N) {
  const float max = row_max(x, N);
  const Vec shift = Vec::broadcast(max);
  const float sum = sum_row(N, [&](int64_t n, auto lanes) {
    const Vec y = exp(lanes.load(x + n) - shift);
    lanes.store(y, e + n);
    return y;
  });
  return {max, sum};
}

// Rows of one vector that are worked on at once. All are loaded before any is stored: it
// seems that a masked load waits for a masked store before it that overlaps it by lanes which
// neither touches (32 x 10: 0.69 us row by row, 0.51 so).
constexpr int kShortRows = 4;

// The softmax of kRows rows that fit one vector each.
template <int kRows>
HM_INLINE void softmax_short_rows(const float* x, float* y, int64_t N, RowExp* row) {
  const SomeLanes lanes{N};
  Vec v[kRows];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) v[i] = lanes.load_or(x + i * N, -__builtin_inff());
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) row[i].max = reduce_max(v[i]);
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
    v[i] = lanes.keep(exp(v[i] - Vec::broadcast(row[i].max)), 0.0f);
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) row[i].sum = reduce_add(v[i]);
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
    lanes.store(v[i] * Vec::broadcast(1.0f / row[i].sum), y + i * N);
  }
}

// The softmax of M rows of N numbers each, which lie together, as many in a vector as fit. Sums are
// those of reduce_add, whose other lanes are 0. (6400 x 3: 70 us by vectors of one row.)
template <int N>
void softmax_few_columns(const float* x, float* y, int64_t M, RowExp* row) {
  constexpr int64_t kRows = 64;
  float e[kRows * N];
  for (int64_t begin = 0; begin < M; begin += kRows) {
    const int64_t rows = M - begin < kRows ? M - begin : kRows;
    const float* x_m = x + begin * N;
    for (int64_t m = 0; m < rows; ++m) {
      float max = x_m[m * N];
      for (int n = 1; n < N; ++n) max = x_m[m * N + n] > max ? x_m[m * N + n] : max;
      for (int n = 0; n < N; ++n) e[m * N + n] = x_m[m * N + n] - max;
      row[begin + m].max = max;
    }
    for_each_vector(0, rows * N,
                    [&](int64_t i, auto lanes) { lanes.store(exp(lanes.load(e + i)), e + i); });
    float* y_m = y + begin * N;
    for (int64_t m = 0; m < rows; ++m) {
      const float* e_m = e + m * N;
      const float even = N > 2 ? e_m[0] + e_m[2 % N] : e_m[0];
      const float odd = N > 3 ? e_m[1] + e_m[3 % N] : e_m[1];
      const float sum = even + odd, factor = 1.0f / sum;
      for (int n = 0; n < N; ++n) y_m[m * N + n] = e_m[n] * factor;
      row[begin + m].sum = sum;
    }
  }
}

// y[m, n] = exp(x[m, n] - max) / sum, and the maximum and the sum of every row. y may be x.
HM_INLINE void softmax_rows(const float* x, float* y, int64_t M, int64_t N, RowExp* row) {
  if (N == 2) return softmax_few_columns<2>(x, y, M, row);
  if (N == 3) return softmax_few_columns<3>(x, y, M, row);
  if (N == 4) return softmax_few_columns<4>(x, y, M, row);
  int64_t m = 0;
  if (N <= Vec::width) {
    for (; m + kShortRows <= M; m += kShortRows) {
      softmax_short_rows<kShortRows>(x + m * N, y + m * N, N, row + m);
    }
    for (; m < M; ++m) softmax_short_rows<1>(x + m * N, y + m * N, N, row + m);
    return;
  }
  for (; m < M; ++m) {
    float* y_m = y + m * N;
    row[m] = exp_row(x + m * N, y_m, N);
    const Vec factor = Vec::broadcast(1.0f / row[m].sum);
    for_each_vector(
        0, N, [&](int64_t n, auto lanes) { lanes.store(lanes.load(y_m + n) * factor, y_m + n); });
  }
}

}  // namespace handmill::HM_ISA
