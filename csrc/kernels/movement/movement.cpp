// Copies between two arrangements of the same items: transpose, slice, pad, concatenate, broadcast.
// The lowering rules turn each of them into StridedCopyArgs, whose comment is the contract.
#include "kernels/movement/args.h"
#include "kernels/range.h"
#include "simd/transpose.h"

namespace handmill::HM_ISA {
namespace {

// A walk over all axes but the last ones: the index, and where it stands in x and y.
struct Walk {
  int64_t index[kMaxCopyRank];
  int64_t x, y;
};

// The index with the given number in row-major order of axes [0, rank).
HM_INLINE Walk walk_from(const StridedCopyArgs& a, int rank, int64_t number) {
  Walk walk{};
  for (int axis = rank - 1; axis >= 0; --axis) {
    walk.index[axis] = number % a.shape[axis];
    number /= a.shape[axis];
    walk.x += walk.index[axis] * a.x_stride[axis];
    walk.y += walk.index[axis] * a.y_stride[axis];
  }
  return walk;
}

HM_INLINE void step(const StridedCopyArgs& a, int rank, Walk& walk) {
  for (int axis = rank - 1; axis >= 0; --axis) {
    walk.x += a.x_stride[axis];
    walk.y += a.y_stride[axis];
    if (++walk.index[axis] < a.shape[axis]) return;
    walk.index[axis] = 0;
    walk.x -= a.shape[axis] * a.x_stride[axis];
    walk.y -= a.shape[axis] * a.y_stride[axis];
  }
}

template <class T>
HM_INLINE void copy_row(const T* x, int64_t x_stride, T* y, int64_t y_stride, int64_t n) {
  if (y_stride == 1 && x_stride == 1) {
    if (n >= 16) {
      std::memcpy(y, x, static_cast<size_t>(n) * sizeof(T));
    } else {
      for (int64_t i = 0; i < n; ++i) y[i] = x[i];
    }
  } else if (y_stride == 1 && x_stride == 0) {
    const T value = *x;
    for (int64_t i = 0; i < n; ++i) y[i] = value;
  } else {
    for (int64_t i = 0; i < n; ++i) y[i * y_stride] = x[i * x_stride];
  }
}

template <class T>
void copy_rows(const StridedCopyArgs& a, Range blocks) {
  const int last = a.rank - 1;
  const int64_t N = a.shape[last];
  int64_t size = 1;
  for (int axis = 0; axis < a.rank; ++axis) size *= a.shape[axis];
  const int64_t limit = blocks.end * a.per_block, end = limit < size ? limit : size;
  int64_t i = blocks.begin * a.per_block;
  if (i >= end) return;
  const T* x = static_cast<const T*>(a.x) + a.x_start;
  T* y = static_cast<T*>(a.y);
  Walk walk = walk_from(a, last, i / N);
  int64_t n = i % N;
  while (i < end) {
    const int64_t count = N - n < end - i ? N - n : end - i;
    copy_row(x + walk.x + n * a.x_stride[last], a.x_stride[last], y + walk.y + n * a.y_stride[last],
             a.y_stride[last], count);
    i += count;
    n = 0;
    step(a, last, walk);
  }
}

template <class T>
HM_INLINE void transpose_square(const T* x, int64_t x_stride, T* y, int64_t y_stride, int64_t I,
                                int64_t J) {
  for (int64_t j = 0; j < J; ++j) {
    for (int64_t i = 0; i < I; ++i) y[j * y_stride + i] = x[i * x_stride + j];
  }
}

// y[j * y_stride + i] = x[i * x_stride + j] for i < I, j < J
template <class T>
HM_INLINE void transpose_tile(const T* x, int64_t x_stride, T* y, int64_t y_stride, int64_t I,
                              int64_t J) {
  // Squares of 8: their rows stay in L1 also where strides are a power of two. The narrow vectors
  // of the portable level gain nothing from the shuffles (1024 x 1024: 0.4 against 1.6 ms on Zen
  // 4).
  constexpr bool kShuffles = sizeof(T) == sizeof(float) && Vec::width >= 8;
  for (int64_t j = 0; j < J; j += 8) {
    for (int64_t i = 0; i < I; i += 8) {
      const T* x_ij = x + i * x_stride + j;
      T* y_ji = y + j * y_stride + i;
      if (I - i >= 8 && J - j >= 8) {
        if constexpr (kShuffles) {
          transpose_8x8(x_ij, x_stride, y_ji, y_stride);
        } else {
          transpose_square(x_ij, x_stride, y_ji, y_stride, 8, 8);
        }
      } else {
        transpose_square(x_ij, x_stride, y_ji, y_stride, I - i < 8 ? I - i : 8,
                         J - j < 8 ? J - j : 8);
      }
    }
  }
}

template <class T>
void copy_tiles(const StridedCopyArgs& a, Range blocks) {
  constexpr int64_t kTile = kTransposeTile;
  const int last = a.rank - 1, axis = a.tile_axis;
  const int64_t I = a.shape[last], J = a.shape[axis];
  const int64_t tiles_i = (I + kTile - 1) / kTile, tiles_j = (J + kTile - 1) / kTile;
  StridedCopyArgs outer = a;  // the axes that are not tiled
  outer.shape[axis] = 1;
  int64_t tiles = tiles_i * tiles_j;
  for (int other = 0; other < last; ++other) tiles *= outer.shape[other];
  const int64_t limit = blocks.end * a.per_block, end = limit < tiles ? limit : tiles;
  int64_t tile = blocks.begin * a.per_block;
  if (tile >= end) return;
  const T* x = static_cast<const T*>(a.x) + a.x_start;
  T* y = static_cast<T*>(a.y);
  Walk walk = walk_from(outer, last, tile / (tiles_i * tiles_j));
  int64_t within = tile % (tiles_i * tiles_j);
  for (; tile < end; ++tile) {
    const int64_t i = within % tiles_i * kTile, j = within / tiles_i * kTile;
    transpose_tile(x + walk.x + i * a.x_stride[last] + j, a.x_stride[last],
                   y + walk.y + j * a.y_stride[axis] + i, a.y_stride[axis],
                   I - i < kTile ? I - i : kTile, J - j < kTile ? J - j : kTile);
    if (++within == tiles_i * tiles_j) {
      within = 0;
      step(outer, last, walk);
    }
  }
}

template <class T>
void copy(const StridedCopyArgs& a, Range blocks) {
  if (a.tile_axis >= 0) {
    copy_tiles<T>(a, blocks);
  } else {
    copy_rows<T>(a, blocks);
  }
}

}  // namespace

void strided_copy(const StridedCopyArgs& a, Range blocks, void*) {
  switch (a.item_bytes) {
    case 1:
      return copy<uint8_t>(a, blocks);
    case 2:
      return copy<uint16_t>(a, blocks);
    case 4:
      return copy<float>(a, blocks);
    default:
      return copy<uint64_t>(a, blocks);
  }
}

}  // namespace handmill::HM_ISA
