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

HM_INLINE void scale_row(float* y, float factor, int64_t N) {
  const Vec v = Vec::broadcast(factor);
  for_each_vector(0, N, [&](int64_t n, auto lanes) { lanes.store(lanes.load(y + n) * v, y + n); });
}

}  // namespace handmill::HM_ISA
