// Images sampled at a projective function of places, each image by its own:
//   y[b, r, c, k] = sample(x[b], (m3 c + m4 r + m5) / d, (m0 c + m1 r + m2) / d)[k]
// Everything is float32, in the order written here and without fma: which samples are taken is not
// continuous in the places, and every level and NumPy must take the same.
//
// Block: bands blocks an image, rows_per_band rows each. Scratch: C floats a thread. x and y must
// not overlap. Any matrix is safe: places are clamped into the image before use, NaN to 0.
#include <cstdint>
#include <cstring>

#include "kernels/images/args.h"
#include "simd/simd.h"

namespace handmill::HM_ISA {
namespace {

// Pixels whose places are computed together: 14 KB of stack. Places are computed for whole vectors,
// so also for some behind the last pixel, which nothing uses.
constexpr int64_t kRun = 256;
constexpr int64_t kLanes = 16;

HM_INLINE int64_t whole_lanes(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

// Where the pixels of a row lie, from a column on.
void place_row(const float* m, int64_t r, int64_t c, int64_t lanes, float* down, float* right) {
  const float row = static_cast<float>(r);
  const float d0 = m[3], d1 = m[4], d2 = m[5], r0 = m[0], r1 = m[1], r2 = m[2];
  const float b0 = m[6], b1 = m[7];
  if (b0 == 0.0f && b1 == 0.0f) {  // divided by 1
    for (int64_t i = 0; i < lanes; ++i) {
      const float column = static_cast<float>(static_cast<int32_t>(c + i));
      down[i] = d0 * column + d1 * row + d2;
      right[i] = r0 * column + r1 * row + r2;
    }
    return;
  }
  for (int64_t i = 0; i < lanes; ++i) {
    const float column = static_cast<float>(static_cast<int32_t>(c + i));
    const float below = b0 * column + b1 * row + 1.0f;
    down[i] = (d0 * column + d1 * row + d2) / below;
    right[i] = (r0 * column + r1 * row + r2) / below;
  }
}

// Where the samples of a run lie along one axis: the first, and for order 1 the one after it.
struct Samples {
  int32_t at[2][kRun];
  float weight[2][kRun];
  int32_t inside[2][kRun];
};

HM_INLINE float mirrored(float v, float last) {
  const float turned = v + last, period = 2.0f * last;
  const float rest = turned - __builtin_floorf(turned / period) * period - last;
  return rest < 0.0f ? -rest : rest;
}

template <Border kBorder>
HM_INLINE float folded(float v, float size) {
  if constexpr (kBorder == Border::kWrap) return v - __builtin_floorf(v / size) * size;
  if constexpr (kBorder == Border::kMirror) {
    return size == 1.0f ? v * 0.0f : mirrored(v, size - 1.0f);
  }
  if constexpr (kBorder == Border::kReflect) {
    return __builtin_floorf((mirrored(2.0f * v + 1.0f, 2.0f * size) - 1.0f) * 0.5f);
  }
  return v;
}

template <Border kBorder>
HM_INLINE void put(float v, float size, int64_t i, int32_t* at, int32_t* inside) {
  const float last = size - 1.0f;
  inside[i] = kBorder != Border::kConstant || (v >= 0.0f && v <= last);
  float place = folded<kBorder>(v, size);
  place = place > 0.0f ? place : 0.0f;  // NaN too
  at[i] = static_cast<int32_t>(place < last ? place : last);
}

template <Border kBorder>
void locate(const float* places, int64_t n, float size, int32_t order, Samples& out) {
  if (order == 0) {
    for (int64_t i = 0; i < n; ++i) {
      const float v = places[i], whole = __builtin_truncf(v), part = v - whole;
      const float far = part < 0.0f ? -part : part;
      const float step = v < 0.0f ? -1.0f : 1.0f;
      put<kBorder>(far >= 0.5f ? whole + step : whole, size, i, out.at[0], out.inside[0]);
    }
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    const float lower = __builtin_floorf(places[i]);
    const float above = places[i] - lower;
    out.weight[0][i] = 1.0f - above;
    out.weight[1][i] = above;
    put<kBorder>(lower, size, i, out.at[0], out.inside[0]);
    put<kBorder>(lower + 1.0f, size, i, out.at[1], out.inside[1]);
  }
}

using Locate = void (*)(const float*, int64_t, float, int32_t, Samples&);

Locate locate_for(Border border) {
  switch (border) {
    case Border::kNearest:
      return locate<Border::kNearest>;
    case Border::kWrap:
      return locate<Border::kWrap>;
    case Border::kMirror:
      return locate<Border::kMirror>;
    case Border::kReflect:
      return locate<Border::kReflect>;
    default:
      return locate<Border::kConstant>;
  }
}

// kC: the channels, 0 for any number.
template <int kC>
void sample_run(const SampleImagesArgs& a, const float* image, const float* fill,
                const Samples& rows, const Samples& columns, int64_t n, float* y) {
  const int64_t C = kC ? kC : a.C;
  const auto pixel = [&](int j, int k, int64_t i) {
    const int64_t place = int64_t{rows.at[j][i]} * a.W + columns.at[k][i];
    return rows.inside[j][i] & columns.inside[k][i] ? image + place * C : fill;
  };
  for (int64_t i = 0; i < n; ++i, y += C) {
    const float* p00 = pixel(0, 0, i);
    if (a.order == 0) {
      for (int64_t k = 0; k < C; ++k) y[k] = p00[k];
      continue;
    }
    const float *p01 = pixel(0, 1, i), *p10 = pixel(1, 0, i), *p11 = pixel(1, 1, i);
    const float w00 = rows.weight[0][i] * columns.weight[0][i];
    const float w01 = rows.weight[0][i] * columns.weight[1][i];
    const float w10 = rows.weight[1][i] * columns.weight[0][i];
    const float w11 = rows.weight[1][i] * columns.weight[1][i];
    for (int64_t k = 0; k < C; ++k) {
      y[k] = w00 * p00[k] + w01 * p01[k] + w10 * p10[k] + w11 * p11[k];
    }
  }
}

// One channel: pixels of a run lie side by side, so that they are blended as vectors. All lanes
// have places inside of the image.
void blend_run(const SampleImagesArgs& a, const float* image, const Samples& rows,
               const Samples& columns, int64_t n, int64_t lanes, float* y) {
  const auto W = static_cast<int32_t>(a.W);
  const float fill = a.cval;
  // Read one by one, which volatile asks for: GCC would gather them, in twice the time.
  const volatile float* const one_by_one = image;
  float pixels[2][2][kRun], found[kRun];
  int32_t at[kRun];
  for (int j = 0; j < 2; ++j) {
    for (int k = 0; k < 2; ++k) {
      float* const p = pixels[j][k];
      for (int64_t i = 0; i < lanes; ++i) at[i] = rows.at[j][i] * W + columns.at[k][i];
      for (int64_t i = 0; i < lanes; ++i) p[i] = one_by_one[at[i]];
      for (int64_t i = 0; i < lanes; ++i) {
        p[i] = (rows.inside[j][i] & columns.inside[k][i]) != 0 ? p[i] : fill;
      }
    }
  }
  for (int64_t i = 0; i < lanes; ++i) {
    const float w00 = rows.weight[0][i] * columns.weight[0][i];
    const float w01 = rows.weight[0][i] * columns.weight[1][i];
    const float w10 = rows.weight[1][i] * columns.weight[0][i];
    const float w11 = rows.weight[1][i] * columns.weight[1][i];
    found[i] = w00 * pixels[0][0][i] + w01 * pixels[0][1][i] + w10 * pixels[1][0][i] +
               w11 * pixels[1][1][i];
  }
  std::memcpy(y, found, static_cast<size_t>(n) * sizeof(float));
}

}  // namespace

void sample_images(const SampleImagesArgs& a, Range blocks, void* scratch) {
  float* fill = static_cast<float*>(scratch);
  for (int64_t k = 0; k < a.C; ++k) fill[k] = a.cval;
  const Locate locate_run = locate_for(a.border);
  const float height = static_cast<float>(a.H), width = static_cast<float>(a.W);
  // A run holds whole rows, as many as there is room for, or a part of a long one.
  const int64_t most_rows = a.W < kRun ? kRun / a.W : 1;
  Samples rows, columns;
  float down[kRun + kLanes] = {}, right[kRun + kLanes] = {};
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const int64_t b = block / a.bands;
    const int64_t begin = block % a.bands * a.rows_per_band;
    const int64_t end = begin + a.rows_per_band < a.H ? begin + a.rows_per_band : a.H;
    const float* m = a.matrix + b * a.matrix_stride;
    const float* image = a.x + b * a.H * a.W * a.C;
    for (int64_t r = begin; r < end; r += most_rows) {
      const int64_t num_rows = end - r < most_rows ? end - r : most_rows;
      for (int64_t c = 0; c < a.W; c += kRun) {
        const int64_t size = a.W - c < kRun ? a.W - c : kRun;
        for (int64_t k = 0; k < num_rows; ++k) {
          place_row(m, r + k, c, whole_lanes(size), down + k * size, right + k * size);
        }
        const int64_t n = num_rows * size, lanes = whole_lanes(n);
        locate_run(down, lanes, height, a.order, rows);
        locate_run(right, lanes, width, a.order, columns);
        float* y = a.y + ((b * a.H + r) * a.W + c) * a.C;
        if (a.C == 3) {
          sample_run<3>(a, image, fill, rows, columns, n, y);
        } else if (a.C == 1 && a.order == 1) {
          blend_run(a, image, rows, columns, n, lanes, y);
        } else if (a.C == 1) {
          sample_run<1>(a, image, fill, rows, columns, n, y);
        } else {
          sample_run<0>(a, image, fill, rows, columns, n, y);
        }
      }
    }
  }
}

}  // namespace handmill::HM_ISA
