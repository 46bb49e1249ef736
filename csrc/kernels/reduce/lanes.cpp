// Reductions of float64 and integers. Shapes and blocks: ReduceArgs and ArgReduceArgs.
//
// Sums and products of integers wrap around, so any order gives the same. The order of a float64
// sum depends on the shape alone: kLanes accumulators, whose sums are taken every kChunk terms.
#include "kernels/lanes.h"

#include "kernels/cast/convert.h"
#include "kernels/elementwise/lane_ops.h"
#include "kernels/reduce/args.h"

namespace handmill::HM_ISA {
namespace {

constexpr int kLanes = 16;
constexpr int64_t kChunk = 32;

template <class T>
struct Limits {
  static constexpr bool is_signed = static_cast<T>(-1) < static_cast<T>(0);
  static constexpr int bits = 8 * static_cast<int>(sizeof(T)) - (is_signed ? 1 : 0);
  static constexpr T highest = static_cast<T>((((uint64_t{1} << (bits - 1)) - 1) << 1) + 1);
  static constexpr T lowest = static_cast<T>(is_signed ? -highest - 1 : 0);
};
template <>
struct Limits<double> {
  static constexpr double highest = __builtin_inf(), lowest = -__builtin_inf();
};

template <class T>
struct LaneSum {
  static constexpr T kIdentity = 0;
  HM_INLINE static T term(T x) { return x; }
  HM_INLINE static T combine(T a, T b) { return lane_ops::add(a, b); }
};
template <class T>
struct LaneSumOfSquares : LaneSum<T> {
  HM_INLINE static T term(T x) { return lane_ops::square(x); }
};
template <class T>
struct LaneMax {
  static constexpr T kIdentity = Limits<T>::lowest;
  HM_INLINE static T term(T x) { return x; }
  HM_INLINE static T combine(T a, T b) { return lane_ops::maximum(a, b); }
};
template <class T>
struct LaneMin {
  static constexpr T kIdentity = Limits<T>::highest;
  HM_INLINE static T term(T x) { return x; }
  HM_INLINE static T combine(T a, T b) { return lane_ops::minimum(a, b); }
};
template <class T>
struct LaneProd {
  static constexpr T kIdentity = 1;
  HM_INLINE static T term(T x) { return x; }
  HM_INLINE static T combine(T a, T b) { return lane_ops::mul(a, b); }
};

// What is not 0 counts as 1.
HM_INLINE uint8_t value_of(Bool x) { return x.value != 0 ? 1 : 0; }
template <class T>
HM_INLINE T value_of(T x) {
  return x;
}
template <class T>
using ValueOf = decltype(value_of(T{}));

// f(ElementType<T>{}, Op<value of T>{}); small integers have maxima and minima only.
template <class F>
void with_op(Dtype dtype, ReduceKind kind, F f) {
  with_element_type(dtype, [&]<class T>(ElementType<T> element) {
    if constexpr (!kIsSame<T, float> && !kIsSame<T, Bfloat16>) {
      using V = ValueOf<T>;
      if (kind == ReduceKind::kMax) return f(element, LaneMax<V>{});
      if (kind == ReduceKind::kMin) return f(element, LaneMin<V>{});
      if constexpr (sizeof(T) > 1) {
        if (kind == ReduceKind::kSum) return f(element, LaneSum<V>{});
        if (kind == ReduceKind::kProd) return f(element, LaneProd<V>{});
      }
      if constexpr (kIsSame<T, double>) {
        if (kind == ReduceKind::kSumOfSquares) return f(element, LaneSumOfSquares<V>{});
      }
    }
  });
}

template <class V>
HM_INLINE V divided(V x, double divisor) {
  if constexpr (kIsFloat<V>) return x / divisor;
  return x;
}

// y[0 .. columns) = combine of x[m * stride + j] over the rows m, columns <= kLanes.
template <class Op, class T, class V>
HM_INLINE void reduce_lanes(const T* x, int64_t rows, int64_t stride, int columns, V* y) {
  V total[kLanes];
  for (V& t : total) t = Op::kIdentity;
  for (int64_t m = 0; m < rows;) {
    const int64_t end = m + kChunk < rows ? m + kChunk : rows;
    V sum[kLanes];
    for (V& s : sum) s = Op::kIdentity;
    if (columns == kLanes) {
      for (; m < end; ++m) {
        for (int j = 0; j < kLanes; ++j) {
          sum[j] = Op::combine(sum[j], Op::term(value_of(x[m * stride + j])));
        }
      }
    } else {
      for (; m < end; ++m) {
        for (int j = 0; j < columns; ++j) {
          sum[j] = Op::combine(sum[j], Op::term(value_of(x[m * stride + j])));
        }
      }
    }
    for (int j = 0; j < kLanes; ++j) total[j] = Op::combine(total[j], sum[j]);
  }
  for (int j = 0; j < columns; ++j) y[j] = total[j];
}

template <class Op, class T>
HM_INLINE auto reduce_row(const T* x, int64_t n) {
  ValueOf<T> lanes[kLanes];
  const int64_t whole = n / kLanes * kLanes;
  reduce_lanes<Op>(x, n / kLanes, kLanes, kLanes, lanes);
  for (int64_t i = whole; i < n; ++i) {
    lanes[i - whole] = Op::combine(lanes[i - whole], Op::term(value_of(x[i])));
  }
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int j = 0; j < half; ++j) lanes[j] = Op::combine(lanes[j], lanes[j + half]);
  }
  return lanes[0];
}

HM_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// The first k where x[k * stride] is largest (smallest), NaN counting as such.
template <class T>
HM_INLINE int32_t arg_extreme(const T* x, int64_t K, int64_t stride, bool is_min) {
  auto best = value_of(x[0]);
  int32_t found = 0;
  for (int64_t k = 1; k < K && best == best; ++k) {
    const auto v = value_of(x[k * stride]);
    if ((is_min ? v < best : v > best) || v != v) {
      best = v;
      found = static_cast<int32_t>(k);
    }
  }
  return found;
}

}  // namespace

void reduce_rows_lanes(const ReduceArgs& a, Range blocks, void*) {
  const Range slices = items_of(blocks, a.slices_per_block, a.outer * a.slices);
  with_op(a.dtype, a.kind, [&]<class T, class Op>(ElementType<T>, Op) {
    const T* x = static_cast<const T*>(a.x);
    auto* y = static_cast<ValueOf<T>*>(a.y);
    for (int64_t i = slices.begin; i < slices.end; ++i) {
      const int64_t o = i / a.slices, begin = i % a.slices * a.slice_length;
      const int64_t rest = a.length - begin;
      const int64_t n = rest < 0 ? 0 : smaller(rest, a.slice_length);
      y[i] = divided(reduce_row<Op>(x + o * a.length + (n > 0 ? begin : 0), n), a.divisor);
    }
  });
}

void reduce_columns_lanes(const ReduceArgs& a, Range blocks, void*) {
  with_op(a.dtype, a.kind, [&]<class T, class Op>(ElementType<T>, Op) {
    for (int64_t block = blocks.begin; block < blocks.end; ++block) {
      const int64_t group = block / a.column_blocks, o = group / a.slices;
      const int64_t first = block % a.column_blocks * a.columns_per_block;
      const int64_t last = smaller(first + a.columns_per_block, a.N);
      const int64_t begin = group % a.slices * a.slice_length, rest = a.length - begin;
      const int64_t length = rest < 0 ? 0 : smaller(rest, a.slice_length);
      const int64_t rows = length / a.N, last_row = length % a.N;
      const T* x = static_cast<const T*>(a.x) + o * a.length + (length > 0 ? begin : 0);
      auto* y = static_cast<ValueOf<T>*>(a.y) + group * a.N;
      for (int64_t n = first; n < last; n += kLanes) {
        const int columns = static_cast<int>(smaller(kLanes, last - n));
        reduce_lanes<Op>(x + n, rows, a.N, columns, y + n);
        for (int64_t i = n; i < n + columns && i < last_row; ++i) {
          y[i] = Op::combine(y[i], Op::term(value_of(x[rows * a.N + i])));
        }
        for (int64_t i = n; i < n + columns; ++i) y[i] = divided(y[i], a.divisor);
      }
    }
  });
}

void argreduce_lanes(const ArgReduceArgs& a, Range blocks, void*) {
  with_element_type(a.dtype, [&]<class T>(ElementType<T>) {
    if constexpr (!kIsSame<T, float> && !kIsSame<T, Bfloat16>) {
      const T* x = static_cast<const T*>(a.x);
      if (a.inner == 1) {
        const Range rows = items_of(blocks, a.per_block, a.outer);
        for (int64_t o = rows.begin; o < rows.end; ++o) {
          a.y[o] = arg_extreme(x + o * a.K, a.K, 1, a.is_min);
        }
        return;
      }
      for (int64_t block = blocks.begin; block < blocks.end; ++block) {
        const int64_t o = block / a.column_blocks, first = block % a.column_blocks * a.per_block;
        const int64_t last = smaller(first + a.per_block, a.inner);
        for (int64_t i = first; i < last; ++i) {
          a.y[o * a.inner + i] = arg_extreme(x + o * a.K * a.inner + i, a.K, a.inner, a.is_min);
        }
      }
    }
  });
}

}  // namespace handmill::HM_ISA
