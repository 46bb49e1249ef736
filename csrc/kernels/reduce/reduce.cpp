// Reductions of float32: sums, sums of squares, maxima, minima, products; argmax and argmin. Shapes
// and blocks: ReduceArgs and ArgReduceArgs.
//
// The tree of a sum depends on the shape and the level alone: chunks of at most kChunk terms an
// accumulator, whose results are combined in order. So a sum of n terms has an error of about
// (kChunk + n / kChunk) roundings, not n. Maxima and minima are NaN if any element is.
#include "kernels/lanes.h"
#include "kernels/optimizer/apply_update.h"
#include "kernels/reduce/args.h"
#include "kernels/reduce/row_argmax.h"

namespace handmill::HM_ISA {
namespace {

constexpr int64_t kChunk = 32;

struct Sum {
  static constexpr float kIdentity = 0.0f;
  HM_INLINE static Vec term(Vec x) { return x; }
  HM_INLINE static Vec combine(Vec a, Vec b) { return a + b; }
  HM_INLINE static float fold(Vec a) { return reduce_add(a); }
};
struct SumOfSquares : Sum {
  HM_INLINE static Vec term(Vec x) { return x * x; }
};
struct Max {
  static constexpr float kIdentity = -__builtin_inff();
  HM_INLINE static Vec term(Vec x) { return x; }
  HM_INLINE static Vec combine(Vec a, Vec b) { return max(a, b); }
  HM_INLINE static float fold(Vec a) { return reduce_max(a); }
};
struct Min {
  static constexpr float kIdentity = __builtin_inff();
  HM_INLINE static Vec term(Vec x) { return x; }
  HM_INLINE static Vec combine(Vec a, Vec b) { return min(a, b); }
  HM_INLINE static float fold(Vec a) { return reduce_min(a); }
};
struct Prod {
  static constexpr float kIdentity = 1.0f;
  HM_INLINE static Vec term(Vec x) { return x; }
  HM_INLINE static Vec combine(Vec a, Vec b) { return a * b; }
  HM_INLINE static float fold(Vec a) {
    float lanes[Vec::width];
    a.store(lanes);
    for (int half = Vec::width / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) lanes[i] *= lanes[i + half];
    }
    return lanes[0];
  }
};

template <class F>
HM_INLINE void with_kind(ReduceKind kind, F f) {
  switch (kind) {
    case ReduceKind::kSum:
      return f(Sum{});
    case ReduceKind::kSumOfSquares:
      return f(SumOfSquares{});
    case ReduceKind::kMax:
      return f(Max{});
    case ReduceKind::kMin:
      return f(Min{});
    case ReduceKind::kProd:
      return f(Prod{});
  }
}

// combine of the terms of x[0 .. n)
template <class Op>
float reduce_run(const float* x, int64_t n) {
  constexpr int64_t kQuad = 4 * Vec::width;
  const Vec identity = Vec::broadcast(Op::kIdentity);
  Vec total = identity;
  int64_t i = 0;
  while (i + kQuad <= n) {
    const int64_t chunk = i + kChunk * kQuad;
    const int64_t end = chunk < n ? chunk : n;
    Vec sum[4] = {identity, identity, identity, identity};
    for (; i + kQuad <= end; i += kQuad) {
      for (int j = 0; j < 4; ++j) {
        sum[j] = Op::combine(sum[j], Op::term(Vec::load(x + i + j * Vec::width)));
      }
    }
    total =
        Op::combine(total, Op::combine(Op::combine(sum[0], sum[1]), Op::combine(sum[2], sum[3])));
  }
  for_each_vector(i, n, [&](int64_t at, auto lanes) {
    const Vec term = Op::term(lanes.load(x + at));
    total = Op::combine(total, lanes.keep(term, Op::kIdentity));
  });
  return Op::fold(total);
}

// y[0 .. kVectors * width) = combine over the rows, of which `rows` are whole. kRows rows at a time
// have accumulators of their own.
template <class Op, int kVectors, int kRows, class Lanes>
HM_INLINE void reduce_columns_tile(const float* x, int64_t rows, int64_t stride, int64_t last_row,
                                   float* y, Vec divisor, Lanes lanes) {
  const Vec identity = Vec::broadcast(Op::kIdentity);
  Vec total[kVectors];
  for (Vec& t : total) t = identity;
  for (int64_t begin = 0; begin < rows; begin += kChunk * kRows) {
    const int64_t chunk = begin + kChunk * kRows;
    const int64_t end = chunk < rows ? chunk : rows;
    Vec sum[kRows][kVectors];
    for (auto& row : sum) {
      for (Vec& s : row) s = identity;
    }
    int64_t m = begin;
    for (; m + kRows <= end; m += kRows) {
      for (int r = 0; r < kRows; ++r) {
        for (int j = 0; j < kVectors; ++j) {
          const Vec term = Op::term(lanes.load(x + (m + r) * stride + j * Vec::width));
          sum[r][j] = Op::combine(sum[r][j], term);
        }
      }
    }
    for (; m < end; ++m) {
      for (int j = 0; j < kVectors; ++j) {
        sum[0][j] = Op::combine(sum[0][j], Op::term(lanes.load(x + m * stride + j * Vec::width)));
      }
    }
    for (int j = 0; j < kVectors; ++j) {
      for (int r = 1; r < kRows; ++r) sum[0][j] = Op::combine(sum[0][j], sum[r][j]);
      total[j] = Op::combine(total[j], sum[0][j]);
    }
  }
  for (int j = 0; j < kVectors; ++j) {
    const int64_t rest = last_row - j * Vec::width;
    if (rest > 0) {
      const SomeLanes some{rest < Vec::width ? rest : Vec::width};
      const Vec term = Op::term(some.load(x + rows * stride + j * Vec::width));
      total[j] = Op::combine(total[j], some.keep(term, Op::kIdentity));
    }
    lanes.store(total[j] / divisor, y + j * Vec::width);
  }
}

// Columns [begin, end) of the matrix of N columns in x[0 .. length).
template <class Op>
void reduce_column_range(const float* x, int64_t length, int64_t N, int64_t begin, int64_t end,
                         float* y, float divisor) {
  const int64_t rows = length / N, last_row = length % N;
  const Vec v = Vec::broadcast(divisor);
  int64_t n = begin;
  for (; n + 4 * Vec::width <= end; n += 4 * Vec::width) {
    reduce_columns_tile<Op, 4, 1>(x + n, rows, N, last_row - n, y + n, v, AllLanes{});
  }
  for_each_vector(n, end, [&](int64_t i, auto lanes) {
    int64_t last = last_row - i;
    if (last > end - i) last = end - i;  // lanes past `end` are not ours
    reduce_columns_tile<Op, 1, 4>(x + i, rows, N, last, y + i, v, lanes);
  });
}

// x[o, k, i] over k, for columns [begin, end) of one o.
void arg_extreme_columns(const float* x, int64_t K, int64_t inner, int64_t begin, int64_t end,
                         int32_t* y, bool is_min) {
  const Vec sign = Vec::broadcast(is_min ? -1.0f : 1.0f);
  for_each_vector(begin, end, [&](int64_t i, auto lanes) {
    Vec best = sign * lanes.load(x + i);
    VecI index = VecI::zero();
    for (int64_t k = 1; k < K; ++k) {
      const Vec v = sign * lanes.load(x + k * inner + i);
      const Mask better = (v > best) | (is_nan(v) & ~is_nan(best));
      best = select(better, v, best);
      index = select(better, VecI::broadcast(static_cast<int32_t>(k)), index);
    }
    index.store_n(y + i, end - i < VecI::width ? end - i : VecI::width);
  });
}

HM_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

}  // namespace

void reduce_rows(const ReduceArgs& a, Range blocks, void*) {
  const float* x = static_cast<const float*>(a.x);
  float* y = static_cast<float*>(a.y);
  const float divisor = static_cast<float>(a.divisor);
  const Range slices = items_of(blocks, a.slices_per_block, a.outer * a.slices);
  with_kind(a.kind, [&]<class Op>(Op) {
    for (int64_t i = slices.begin; i < slices.end; ++i) {
      const int64_t o = i / a.slices, begin = i % a.slices * a.slice_length;
      const int64_t rest = a.length - begin;
      const int64_t n = rest < 0 ? 0 : smaller(rest, a.slice_length);
      y[i] = reduce_run<Op>(x + o * a.length + (n > 0 ? begin : 0), n) / divisor;
    }
  });
}

void reduce_columns(const ReduceArgs& a, Range blocks, void*) {
  const float* x = static_cast<const float*>(a.x);
  float* y = static_cast<float*>(a.y);
  with_kind(a.kind, [&]<class Op>(Op) {
    for (int64_t block = blocks.begin; block < blocks.end; ++block) {
      const int64_t group = block / a.column_blocks, o = group / a.slices;
      const int64_t first = block % a.column_blocks * a.columns_per_block;
      const int64_t begin = group % a.slices * a.slice_length, rest = a.length - begin;
      const int64_t length = rest < 0 ? 0 : smaller(rest, a.slice_length);
      reduce_column_range<Op>(x + o * a.length + (length > 0 ? begin : 0), length, a.N, first,
                              smaller(first + a.columns_per_block, a.N), y + group * a.N,
                              static_cast<float>(a.divisor));
    }
  });
}

void reduce_columns_update(const ReduceUpdateArgs& a, Range blocks, void* scratch) {
  ReduceArgs reduce = a.reduce;
  float* sums = static_cast<float*>(scratch);
  reduce.y = sums;
  reduce_columns(reduce, blocks, nullptr);
  const Range columns = items_of(blocks, reduce.columns_per_block, reduce.N);
  apply_update(a.update, sums + columns.begin, columns.begin, columns.end - columns.begin);
}

void argreduce(const ArgReduceArgs& a, Range blocks, void*) {
  const float* x = static_cast<const float*>(a.x);
  if (a.inner == 1) {
    const Range rows = items_of(blocks, a.per_block, a.outer);
    for (int64_t o = rows.begin; o < rows.end; ++o) {
      a.y[o] = static_cast<int32_t>(row_arg_extreme(x + o * a.K, a.K, a.is_min));
    }
    return;
  }
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const int64_t o = block / a.column_blocks, first = block % a.column_blocks * a.per_block;
    arg_extreme_columns(x + o * a.K * a.inner, a.K, a.inner, first,
                        smaller(first + a.per_block, a.inner), a.y + o * a.inner, a.is_min);
  }
}

}  // namespace handmill::HM_ISA
