// Mean and variance of columns in one pass over memory. Contract: ColumnMomentsArgs.
//
// A chunk of rows is read twice, the second time from L1: its mean, then the squares of the
// distances from that mean, so that nothing cancels however far the columns lie from zero. Chunks
// of a slice, and then slices, are joined in order (Chan, Golub, LeVeque 1979).
#include "kernels/lanes.h"
#include "kernels/reduce/args.h"

namespace handmill::HM_ISA {
namespace {

constexpr int64_t kChunkRows = 32;

// How a part of `count` rows joins the `before` rows in front of it.
struct Joining {
  Vec mean, square;  // weights of the distance of the means, and of its square

  HM_INLINE Joining(int64_t before, int64_t count) {
    const float share = static_cast<float>(count) / static_cast<float>(before + count);
    mean = Vec::broadcast(share);
    square = Vec::broadcast(share * static_cast<float>(before));
  }

  HM_INLINE void join(Vec part_mean, Vec part_squares, Vec* total_mean, Vec* total_squares) const {
    const Vec distance = part_mean - *total_mean;
    const Vec joined = fma(distance, mean, *total_mean);
    // From an infinite mean no distance leads back: it stays, as the sum of all rows would.
    *total_mean = select(joined == joined, joined, part_mean + *total_mean);
    *total_squares = fma(distance * distance, square, *total_squares + part_squares);
  }
};

// next: what is read after these columns, as many rows of it, fetched meanwhile: a walk down
// columns is none that the processor foresees.
template <int kVectors, class Lanes>
HM_INLINE void join_chunk(const float* x, const float* next, int64_t rows, int64_t stride,
                          int64_t before, float* mean, float* squares, Lanes lanes) {
  constexpr int kLine = 16;
  Vec sum[kVectors], square[kVectors];
  for (int j = 0; j < kVectors; ++j) sum[j] = square[j] = Vec::zero();
  for (int64_t m = 0; m < rows; ++m) {
    for (int j = 0; j < kVectors * Vec::width; j += kLine) {
      __builtin_prefetch(next + m * stride + j);
    }
    for (int j = 0; j < kVectors; ++j) {
      sum[j] = sum[j] + lanes.load(x + m * stride + j * Vec::width);
    }
  }
  const Vec count = Vec::broadcast(static_cast<float>(rows));
  for (int j = 0; j < kVectors; ++j) sum[j] = sum[j] / count;
  for (int64_t m = 0; m < rows; ++m) {
    for (int j = 0; j < kVectors; ++j) {
      const Vec distance = lanes.load(x + m * stride + j * Vec::width) - sum[j];
      square[j] = fma(distance, distance, square[j]);
    }
  }
  const Joining joining(before, rows);
  for (int j = 0; j < kVectors; ++j) {
    if (before > 0) {
      Vec total = lanes.load(mean + j * Vec::width);
      Vec total_squares = lanes.load(squares + j * Vec::width);
      joining.join(sum[j], square[j], &total, &total_squares);
      sum[j] = total;
      square[j] = total_squares;
    }
    lanes.store(sum[j], mean + j * Vec::width);
    lanes.store(square[j], squares + j * Vec::width);
  }
}

void join_rows(const float* x, int64_t rows, int64_t N, int64_t columns, int64_t before,
               float* mean, float* squares) {
  constexpr int64_t kWide = 4 * Vec::width;
  const float* const behind = x + rows * N;
  int64_t n = 0;
  for (; n + kWide <= columns; n += kWide) {
    const float* const next = n + 2 * kWide <= columns ? x + n + kWide : behind;
    join_chunk<4>(x + n, next, rows, N, before, mean + n, squares + n, AllLanes{});
  }
  for_each_vector(n, columns, [&](int64_t i, auto lanes) {
    join_chunk<1>(x + i, behind + i, rows, N, before, mean + i, squares + i, lanes);
  });
}

// Elements of slice `s`.
HM_INLINE int64_t slice_size(const ColumnMomentsArgs& a, int64_t s) {
  const int64_t rest = a.length - s * a.slice_length;
  return rest < a.slice_length ? rest : a.slice_length;
}

}  // namespace

void column_moments(const ColumnMomentsArgs& a, Range blocks, void*) {
  for (int64_t s = blocks.begin; s < blocks.end; ++s) {
    const float* x = a.x + s * a.slice_length;
    float *mean = a.means + s * a.N, *squares = a.squares + s * a.N;
    const int64_t size = slice_size(a, s), rows = size / a.N;
    for (int64_t m = 0; m < rows; m += kChunkRows) {
      const int64_t count = rows - m < kChunkRows ? rows - m : kChunkRows;
      join_rows(x + m * a.N, count, a.N, a.N, m, mean, squares);
    }
    join_rows(x + rows * a.N, 1, a.N, size % a.N, rows, mean, squares);
  }
}

void join_moments(const JoinMomentsArgs& a, Range blocks, void*) {
  const ColumnMomentsArgs& parts = a.parts;
  const Range columns = items_of(blocks, a.columns_per_block, a.C);
  const Vec total = Vec::broadcast(static_cast<float>(parts.length / a.C));
  for_each_vector(columns.begin, columns.end, [&](int64_t c, auto lanes) {
    Vec mean = Vec::zero(), squares = Vec::zero();
    int64_t before = 0;
    for (int64_t s = 0; s * parts.slice_length < parts.length; ++s) {
      const int64_t size = slice_size(parts, s);
      for (int64_t n = 0; n < parts.N; n += a.C) {
        const int64_t count = size / parts.N + (n < size % parts.N ? 1 : 0);
        if (count == 0) continue;
        const int64_t at = s * parts.N + n + c;
        Joining(before, count)
            .join(lanes.load(parts.means + at), lanes.load(parts.squares + at), &mean, &squares);
        before += count;
      }
    }
    if (before == 0) mean = Vec::broadcast(__builtin_nanf(""));
    lanes.store(mean, a.mean + c);
    lanes.store(squares / total, a.variance + c);
  });
}

}  // namespace handmill::HM_ISA
