// The position of the largest element of a row.
#pragma once

#include "kernels/lanes.h"

namespace handmill::HM_ISA {

// The first n where x[n] is largest (smallest with is_min); the first NaN if there is one, as
// NumPy.
HM_INLINE int64_t row_arg_extreme(const float* x, int64_t N, bool is_min) {
  const Vec sign = Vec::broadcast(is_min ? -1.0f : 1.0f);
  const float lowest = -__builtin_inff();
  Vec best[4] = {Vec::broadcast(lowest), Vec::broadcast(lowest), Vec::broadcast(lowest),
                 Vec::broadcast(lowest)};
  int64_t start = 0;
  for (; start + 4 * Vec::width <= N; start += 4 * Vec::width) {
    for (int j = 0; j < 4; ++j) {
      best[j] = max(best[j], sign * Vec::load(x + start + j * Vec::width));
    }
  }
  for_each_vector(start, N, [&](int64_t n, auto lanes) {
    best[0] = max(best[0], lanes.keep(sign * lanes.load(x + n), lowest));
  });
  const float largest = reduce_max(max(max(best[0], best[1]), max(best[2], best[3])));
  const float value = is_min ? -largest : largest;
  const Vec wanted = Vec::broadcast(value);
  int64_t n = 0;
  if (value == value) {
    while (n + Vec::width <= N && !any(Vec::load(x + n) == wanted)) n += Vec::width;
    while (n < N - 1 && x[n] != value) ++n;
  } else {
    while (n + Vec::width <= N && !any(is_nan(Vec::load(x + n)))) n += Vec::width;
    while (n < N - 1 && x[n] == x[n]) ++n;
  }
  return n;
}

}  // namespace handmill::HM_ISA
