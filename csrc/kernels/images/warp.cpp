// Affine warp of images, all channels at once, with flips and rescaling in the same pass:
//   y[b, r, c, k] = sample(x[b], m0 r' + m1 c' + m2, m3 r' + m4 c' + m5)[k] * scale + offset
// where (r', c') is (r, c), mirrored where the image is flipped. The coordinates are what
// scipy.ndimage.affine_transform computes, in double and in its order of operations, because the
// result is not continuous in them at the edges of kConstant and kWrap and everywhere for order 0.
// Samples are blended in float32, without fma, so that every level and the NumPy twin
// (handmill.data.images.warp_reference) give the same bits.
//
// Block: bands blocks an image, rows_per_band rows each. x and y must not overlap. Any matrix is
// safe, NaN and infinities included: coordinates are clamped into the image before use.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/images/args.h"
#include "simd/simd.h"

namespace handmill::HM_ISA {
namespace {

// Columns whose coordinates are computed together: 3 KB of stack, first-level cache.
constexpr int64_t kChunk = 256;
constexpr int32_t kOutside = -1;

typedef float Pixel __attribute__((vector_size(16)));
typedef float Pair __attribute__((vector_size(32)));
typedef int32_t PairInt __attribute__((vector_size(32)));
typedef int64_t Words2 __attribute__((vector_size(16)));
typedef int64_t Words4 __attribute__((vector_size(32)));
typedef uint16_t Halves __attribute__((vector_size(16)));
typedef uint8_t Bytes8 __attribute__((vector_size(8)));
typedef uint8_t Bytes16 __attribute__((vector_size(16)));
typedef uint8_t Bytes32 __attribute__((vector_size(32)));

// Where the samples of a run of output columns lie in the source.
struct Columns {
  int32_t base[kChunk];        // element of the upper left sample, or kOutside
  float row_fraction[kChunk];  // weight of the lower samples
  float column_fraction[kChunk];
};

// How many whole periods lie in |v| (below 2^51; NaN stays NaN). No conversion to integers: the
// range check that it needs would become a branch, and the loop over columns scalar.
HM_INLINE double whole_periods(double v, double period) {
  constexpr double kRounder = 4503599627370496.0;  // 2^52: adding it rounds to an integer
  const double ratio = __builtin_fabs(v) / period;
  const double rounded = (ratio + kRounder) - kRounder;
  return rounded - (rounded > ratio ? 1.0 : 0.0);
}

// Maps a coordinate on an axis of `length` samples as scipy's map_coordinate does, then clamps it
// to [0, length - 1]. For order 0 and 1 that equals scipy's own treatment of samples just outside.
// Selections only, so that the loop over columns becomes vector code.
template <WarpFill kFill>
HM_INLINE double map_coordinate(double v, double length) {
  const double last = length - 1;
  if constexpr (kFill == WarpFill::kReflect) {
    const double period = 2 * length;
    const double whole = period * whole_periods(v, period);
    const double rest = v - __builtin_copysign(whole, v);
    // -length <= near < length: the neighbour images of both sides look alike from here.
    const double near = rest < -length ? rest + period : rest;
    const double folded = near >= length ? period - near - 1 : near;
    v = near < 0 ? -near - 1 : folded;
  } else if constexpr (kFill == WarpFill::kWrap) {
    const double period = last > 0 ? last : 1;
    const double whole = whole_periods(v, period);
    const double above = v > last ? whole : 0;
    const double steps = v < 0 ? -whole - 1 : above;
    v = v - period * steps;
  }
  v = v > 0 ? v : 0;  // NaN too
  return v < last ? v : last;
}

struct RowOrigin {
  double row, column;            // coordinates of column 0 of this row, without the offsets
  double row_step, column_step;  // m1, m4
  double row_offset, column_offset;
};

// Fills `out` for the output columns begin .. begin + n. `step` is -1 for mirrored columns.
template <WarpFill kFill, int kOrder>
void locate(const WarpArgs& a, const RowOrigin& o, int32_t begin, int32_t step, int64_t n,
            Columns& out) {
  const double height = static_cast<double>(a.H);
  const double width = static_cast<double>(a.W);
  const int32_t W = static_cast<int32_t>(a.W);
  const int32_t C = static_cast<int32_t>(a.C);
  const int32_t last_row = static_cast<int32_t>(a.H > 1 ? a.H - 2 : 0);
  const int32_t last_column = static_cast<int32_t>(a.W > 1 ? a.W - 2 : 0);
  for (int32_t i = 0; i < static_cast<int32_t>(n); ++i) {
    const double c = static_cast<double>(begin + step * i);
    const double row = (o.row + c * o.row_step) + o.row_offset;
    const double column = (o.column + c * o.column_step) + o.column_offset;
    const double mapped_row = map_coordinate<kFill>(row, height);
    const double mapped_column = map_coordinate<kFill>(column, width);
    int32_t base;
    if constexpr (kOrder == 0) {
      base =
          (static_cast<int32_t>(mapped_row + 0.5) * W + static_cast<int32_t>(mapped_column + 0.5)) *
          C;
    } else {
      // The upper left sample is never in the last row or column: on the far edge the fraction is
      // 1 instead, so that the lower and right samples need no test.
      int32_t r = static_cast<int32_t>(mapped_row);
      int32_t k = static_cast<int32_t>(mapped_column);
      r = r < last_row ? r : last_row;
      k = k < last_column ? k : last_column;
      out.row_fraction[i] = static_cast<float>(mapped_row - static_cast<double>(r));
      out.column_fraction[i] = static_cast<float>(mapped_column - static_cast<double>(k));
      base = (r * W + k) * C;
    }
    if constexpr (kFill == WarpFill::kConstant) {
      const bool inside = (row >= 0) & (row <= height - 1) & (column >= 0) & (column <= width - 1);
      base = inside ? base : kOutside;
    }
    out.base[i] = base;
  }
}

HM_INLINE Pixel load_pixel(const float* p) {
  Pixel v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

HM_INLINE Pixel load_pixel(const uint8_t* p) {
  return Pixel{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]),
               static_cast<float>(p[3])};
}

// Eight elements: a sample and, with three or four channels, the one to its right.
HM_INLINE Pair load_pair(const float* p) {
  Pair v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// GCC 12 takes a conversion from eight bytes apart, so it is told which bytes go where. 64x64x3
// uint8 images, one core of Zen 4: interleaving 60, one shuffle 72 thousand images/s (avx512).
HM_INLINE Pair load_pair(const uint8_t* p) {
#if defined(__clang__)
  Bytes8 bytes;
  std::memcpy(&bytes, p, sizeof bytes);
  return __builtin_convertvector(bytes, Pair);
#elif defined(HM_ISA_PORTABLE)  // no general shuffle of bytes in SSE2
  int64_t word;
  std::memcpy(&word, p, sizeof word);
  const Bytes16 bytes = reinterpret_cast<Bytes16>(Words2{word, 0});
  const Bytes16 halves = __builtin_shuffle(
      bytes, Bytes16{}, Bytes16{0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23});
  return __builtin_convertvector(__builtin_convertvector(reinterpret_cast<Halves>(halves), PairInt),
                                 Pair);
#else
  int64_t word;
  std::memcpy(&word, p, sizeof word);
  const Bytes32 bytes = reinterpret_cast<Bytes32>(Words4{word, 0, word, 0});
  const Bytes32 wide = __builtin_shuffle(
      bytes, Bytes32{0,  8,  8,  8,  1,  8,  8,  8,  2,  8,  8,  8,  3,  8,  8,  8,
                     20, 24, 24, 24, 21, 24, 24, 24, 22, 24, 24, 24, 23, 24, 24, 24});
  return __builtin_convertvector(reinterpret_cast<PairInt>(wide), Pair);
#endif
}

HM_INLINE Pixel left_of(Pair v) {
  Pixel left;
  std::memcpy(&left, &v, sizeof left);
  return left;
}

// The lanes kC .. kC + 3; with three channels the last one is of no use.
template <int kC>
HM_INLINE Pixel right_of(Pair v) {
  return Pixel{v[kC], v[kC + 1], v[kC + 2], v[kC + 3]};
}

HM_INLINE Pair splat_pair(float x) { return Pair{x, x, x, x, x, x, x, x}; }
HM_INLINE Pixel splat(float x) { return Pixel{x, x, x, x}; }

// What lies outside of the image under kConstant.
HM_INLINE void fill_pixel(const WarpArgs& a, int64_t C, float* y) {
  for (int64_t k = 0; k < C; ++k) y[k] = a.cval * a.scale + a.offset;
}

// Samples of any C, channel by channel.
template <typename T, int kOrder>
void sample(const WarpArgs& a, const void* source, const Columns& at, int64_t n, float* y) {
  const int64_t C = a.C;
  const int64_t right = a.W > 1 ? C : 0;
  const int64_t down = a.H > 1 ? a.W * C : 0;
  const float scale = a.scale;
  const float offset = a.offset;
  for (int64_t i = 0; i < n; ++i, y += C) {
    if (at.base[i] == kOutside) {
      fill_pixel(a, C, y);
      continue;
    }
    const T* p = static_cast<const T*>(source) + at.base[i];
    for (int64_t k = 0; k < C; ++k) {
      float v = static_cast<float>(p[k]);
      if constexpr (kOrder == 1) {
        const float upper_right = static_cast<float>(p[k + right]);
        const float lower_left = static_cast<float>(p[k + down]);
        const float lower_right = static_cast<float>(p[k + down + right]);
        const float left = v + at.row_fraction[i] * (lower_left - v);
        const float between = upper_right + at.row_fraction[i] * (lower_right - upper_right);
        v = left + at.column_fraction[i] * (between - left);
      }
      y[k] = v * scale + offset;
    }
  }
}

// Samples of kC = 3 or 4 channels and at least two columns, a pixel in a vector of four lanes. With
// three channels, loads take an element or two too many, which for the last place in the source
// would lie beyond its end: `corner` is a padded copy of that place. Stores write one element too
// many, which the next pixel then overwrites; the last pixel of the run is stored exactly.
template <typename T, int kOrder, int kC>
void sample_pixels(const WarpArgs& a, const void* source, const Columns& at, int64_t n, float* y) {
  constexpr size_t kSamples = kOrder == 1 ? 2 * kC : kC;  // elements needed of a row
  const T* x = static_cast<const T*>(source);
  const int64_t down = kOrder == 1 && a.H > 1 ? a.W * kC : 0;
  const int64_t last = a.H * a.W * kC - down - static_cast<int64_t>(kSamples);
  T corner[16] = {};
  std::memcpy(corner, x + last, kSamples * sizeof(T));
  std::memcpy(corner + 8, x + last + down, kSamples * sizeof(T));
  const Pixel scale = splat(a.scale);
  const Pixel offset = splat(a.offset);
  for (int64_t i = 0; i < n; ++i, y += kC) {
    const int64_t base = at.base[i];
    if (base == kOutside) {
      fill_pixel(a, kC, y);
      continue;
    }
    const bool at_corner = kC == 3 && base == last;
    const T* upper = at_corner ? corner : x + base;
    Pixel v;
    if constexpr (kOrder == 1) {
      const T* lower = at_corner ? corner + 8 : upper + down;
      const Pair top = load_pair(upper);
      const Pair both = top + splat_pair(at.row_fraction[i]) * (load_pair(lower) - top);
      const Pixel left = left_of(both);
      v = left + splat(at.column_fraction[i]) * (right_of<kC>(both) - left);
    } else {
      v = load_pixel(upper);
    }
    v = v * scale + offset;
    std::memcpy(y, &v, kC == 4 || i + 1 < n ? sizeof v : 3 * sizeof(float));
  }
}

// A matrix that is exactly the identity: conversion, flips and rescaling only.
template <typename T>
void copy_row(const WarpArgs& a, const void* source, int64_t row, bool mirrored, float* y) {
  const T* x = static_cast<const T*>(source) + row * a.W * a.C;
  if (!mirrored) {
    for (int64_t i = 0; i < a.W * a.C; ++i) y[i] = static_cast<float>(x[i]) * a.scale + a.offset;
    return;
  }
  for (int64_t c = a.W - 1; c >= 0; --c) {
    for (int64_t k = 0; k < a.C; ++k) {
      *y++ = static_cast<float>(x[c * a.C + k]) * a.scale + a.offset;
    }
  }
}

bool is_identity(const double* m) {
  return m[0] == 1 && m[1] == 0 && m[2] == 0 && m[3] == 0 && m[4] == 1 && m[5] == 0;
}

// The work is split by what it depends on, so that the number of copies of the code is the sum
// and not the product of the cases: coordinates by fill and order, samples by type, order and C.
using Locate = void (*)(const WarpArgs&, const RowOrigin&, int32_t, int32_t, int64_t, Columns&);
using Sample = void (*)(const WarpArgs&, const void*, const Columns&, int64_t, float*);

template <int kOrder>
Locate choose_locate(WarpFill fill) {
  switch (fill) {
    case WarpFill::kConstant:
      return locate<WarpFill::kConstant, kOrder>;
    case WarpFill::kReflect:
      return locate<WarpFill::kReflect, kOrder>;
    case WarpFill::kWrap:
      return locate<WarpFill::kWrap, kOrder>;
    default:
      return locate<WarpFill::kNearest, kOrder>;
  }
}

template <typename T, int kOrder>
Sample choose_sample(const WarpArgs& a) {
  if (a.C == 3 && a.W > 1) return sample_pixels<T, kOrder, 3>;
  if (a.C == 4 && a.W > 1) return sample_pixels<T, kOrder, 4>;
  return sample<T, kOrder>;
}

// Fetches a row of the next image. Images come in random order and rows of a rotated image in no
// order that the hardware foresees: 64x64x3 float32 out of 50 MB, Zen 4: 27 -> 57 thousand
// images/s.
HM_INLINE void prefetch_row(const WarpArgs& a, const void* source, int64_t r) {
  const int64_t bytes = a.W * a.C * (a.is_uint8 ? 1 : 4);
  const char* row = static_cast<const char*>(source) + r * bytes;
  for (int64_t k = 0; k < bytes; k += 64) __builtin_prefetch(row + k);
}

template <int kOrder>
void warp_rows(const WarpArgs& a, int64_t b, int64_t begin, int64_t end) {
  const Locate locate_columns = choose_locate<kOrder>(a.fill);
  const Sample sample_columns =
      a.is_uint8 ? choose_sample<uint8_t, kOrder>(a) : choose_sample<float, kOrder>(a);
  const double* m = a.matrix + b * 6;
  const bool mirror_columns = (a.flips[b] & 1) != 0;
  const bool mirror_rows = (a.flips[b] & 2) != 0;
  const bool is_copy = is_identity(m);
  Columns at;
  for (int64_t r = begin; r < end; ++r) {
    if (b + 1 < a.B) prefetch_row(a, a.source[b + 1], r);
    const int64_t source_row = mirror_rows ? a.H - 1 - r : r;
    float* y = a.y + (b * a.H + r) * a.W * a.C;
    if (is_copy) {
      if (a.is_uint8) {
        copy_row<uint8_t>(a, a.source[b], source_row, mirror_columns, y);
      } else {
        copy_row<float>(a, a.source[b], source_row, mirror_columns, y);
      }
      continue;
    }
    const double row = static_cast<double>(source_row);
    const RowOrigin origin{row * m[0], row * m[3], m[1], m[4], m[2], m[5]};
    for (int64_t c = 0; c < a.W; c += kChunk) {
      const int64_t n = a.W - c < kChunk ? a.W - c : kChunk;
      const int32_t first = static_cast<int32_t>(mirror_columns ? a.W - 1 - c : c);
      locate_columns(a, origin, first, mirror_columns ? -1 : 1, n, at);
      sample_columns(a, a.source[b], at, n, y + c * a.C);
    }
  }
}

}  // namespace

void warp(const WarpArgs& a, Range blocks, void* /*scratch*/) {
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const int64_t b = block / a.bands;
    const int64_t begin = block % a.bands * a.rows_per_band;
    const int64_t end = begin + a.rows_per_band < a.H ? begin + a.rows_per_band : a.H;
    if (a.order == 0) {
      warp_rows<0>(a, b, begin, end);
    } else {
      warp_rows<1>(a, b, begin, end);
    }
  }
}

}  // namespace handmill::HM_ISA
