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

// The softmax of a row that fits one vector: in registers, because a masked load waits long for the
// masked store before it (32 rows of 10, AVX-512 on Zen 4: 0.6 against 0.9 us).
HM_INLINE RowExp softmax_short_row(const float* x, float* y, int64_t N) {
  const SomeLanes lanes{N};
  const Vec v = lanes.load_or(x, -__builtin_inff());
  const float max = reduce_max(v);
  const Vec e = lanes.keep(exp(v - Vec::broadcast(max)), 0.0f);
  const float sum = reduce_add(e);
  lanes.store(e * Vec::broadcast(1.0f / sum), y);
  return {max, sum};
}

// y[n] = exp(x[n] - max) / sum. y may be x.
HM_INLINE RowExp softmax_row(const float* x, float* y, int64_t N) {
  if (N <= Vec::width) return softmax_short_row(x, y, N);
  const RowExp row = exp_row(x, y, N);
  const Vec factor = Vec::broadcast(1.0f / row.sum);
  for_each_vector(0, N,
                  [&](int64_t n, auto lanes) { lanes.store(lanes.load(y + n) * factor, y + n); });
  return row;
}

}  // namespace handmill::HM_ISA
