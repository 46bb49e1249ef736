// The position of the largest element of a row.
#pragma once

#include "kernels/lanes.h"

namespace handmill::HM_ISA {

// The first n where x[n] is largest (smallest with is_min); the first NaN if there is one, as
// NumPy. No branch depends on numbers in rows of one vector: where the largest is differs from row
// to row, and a branch that is guessed wrong costs more than the row.
HM_INLINE int64_t row_arg_extreme(const float* x, int64_t N, bool is_min) {
  const Vec sign = Vec::broadcast(is_min ? -1.0f : 1.0f);
  const float lowest = -__builtin_inff();
  Vec best = Vec::broadcast(lowest);
  int64_t start = 0;
  if (N >= 4 * Vec::width) {
    Vec four[4] = {best, best, best, best};
    for (; start + 4 * Vec::width <= N; start += 4 * Vec::width) {
      for (int j = 0; j < 4; ++j) {
        four[j] = max(four[j], sign * Vec::load(x + start + j * Vec::width));
      }
    }
    best = max(max(four[0], four[1]), max(four[2], four[3]));
  }
  for_each_vector(start, N, [&](int64_t n, auto lanes) {
    best = max(best, lanes.keep(sign * lanes.load(x + n), lowest));
  });
  const Vec wanted = sign * Vec::broadcast(reduce_max(best));
  const auto found = [&](Vec v) { return (v == wanted) | is_nan(v); };  // NaN only if it is wanted
  int64_t n = 0;
  for (; n + Vec::width < N; n += Vec::width) {
    const Mask here = found(Vec::load(x + n));
    if (any(here)) return n + first_true(here);
  }
  return n + first_true(found(Vec::load_n(x + n, N - n)) & first_lanes(N - n));
}

}  // namespace handmill::HM_ISA
