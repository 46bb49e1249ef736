// Arguments of the image warp (warp.cpp) and of sampling (sample.cpp).
#pragma once

#include <cstdint>

#include "kernels/range.h"

namespace handmill {

// What lies beyond the edge of the source; the meaning of each mode is that of scipy.ndimage.
enum class WarpFill : int32_t {
  kNearest,   // a a a | a b c d | d d d
  kConstant,  // cval; no blending between the image and cval
  kReflect,   // d c b a | a b c d | d c b a
  kWrap,      // period N - 1: the last sample lies on the first
};

// B images of (H, W, C), channels last. source[b] points to uint8 or float32 elements.
struct WarpArgs {
  float* y;                   // (B, H, W, C)
  const void* const* source;  // (B)
  const double* matrix;       // (B, 6): row = m0 r + m1 c + m2, column = m3 r + m4 c + m5
  const uint8_t* flips;       // (B): bit 0 mirrors the columns of the result, bit 1 its rows
  int64_t B, H, W, C;         // H * W * C < 2^31
  int64_t bands;              // blocks per image
  int64_t rows_per_band;      // rows of a block; the last band of an image may be shorter
  float scale, offset;        // y = warped * scale + offset
  float cval;                 // before scale and offset
  WarpFill fill;
  int32_t order;  // 0 nearest sample, 1 bilinear
  bool is_uint8;  // else float32
};

// What lies beyond the edge of images that are sampled; the meaning is that of keras.ops.image.
enum class Border : int32_t {
  kConstant,  // cval
  kNearest,   // a a a | a b c d | d d d
  kWrap,      // b c d | a b c d | a b c
  kMirror,    // d c b | a b c d | c b a
  kReflect,   // c b a | a b c d | d c b
};

// y[b, r, c] = x[b] at row (m3 c + m4 r + m5) / d and column (m0 c + m1 r + m2) / d, where
// d = m6 c + m7 r + 1 and m = matrix[b].
struct SampleImagesArgs {
  const float* x;         // (B, H, W, C)
  const float* matrix;    // (B, 8), or (1, 8) for all
  float* y;               // (B, H, W, C)
  int64_t B, H, W, C;     // H * W < 2^31
  int64_t matrix_stride;  // 8, or 0 where there is one for all
  int64_t bands;          // blocks per image
  int64_t rows_per_band;  // rows of a block; the last band of an image may be shorter
  float cval;
  Border border;
  int32_t order;  // 0 nearest sample, 1 bilinear
};

}  // namespace handmill
