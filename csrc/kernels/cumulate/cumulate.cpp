// Running sums along the middle axis of (M, N, K). The output may lie over the input.
#include "kernels/cumulate/args.h"
#include "kernels/lanes.h"

namespace handmill::HM_ISA {
namespace {

template <class T>
T plus(T a, T b) {
  T sum;
  if constexpr (static_cast<T>(0.5) != T{0}) {
    sum = a + b;
  } else {
    __builtin_add_overflow(a, b, &sum);  // wraps, as NumPy's do
  }
  return sum;
}

// y[m, n, k] = x[m, 0, k] + ... + x[m, n, k], from the other end if reverse; in this order, so that
// the sums are those of np.cumsum to the bit.
template <class T>
void sums(const CumsumArgs& a, Range blocks) {
  const Range range = items_of(blocks, a.per_block, a.M);
  const int64_t step = a.reverse ? -a.K : a.K;
  for (int64_t m = range.begin; m < range.end; ++m) {
    const int64_t first = m * a.N * a.K + (a.reverse ? (a.N - 1) * a.K : 0);
    const T* x = static_cast<const T*>(a.x) + first;
    T* y = static_cast<T*>(a.y) + first;
    for (int64_t k = 0; k < a.K; ++k) y[k] = x[k];
    for (int64_t n = 1; n < a.N; ++n) {
      x += step;
      y += step;
      for (int64_t k = 0; k < a.K; ++k) y[k] = plus(y[k - step], x[k]);
    }
  }
}

}  // namespace

void cumsum(const CumsumArgs& a, Range blocks, void*) {
  switch (a.dtype) {
    case Dtype::float32:
      return sums<float>(a, blocks);
    case Dtype::float64:
      return sums<double>(a, blocks);
    case Dtype::int32:
      return sums<int32_t>(a, blocks);
    case Dtype::int64:
      return sums<int64_t>(a, blocks);
    default:
      return;
  }
}

}  // namespace handmill::HM_ISA
