// In-register transposition of 8 x 8 floats, for every level: GNU vectors of eight floats, which
// the compiler splits where registers are narrower.
#pragma once

#include "simd/simd.h"

namespace handmill::HM_ISA {

typedef float Lanes8 __attribute__((vector_size(32)));
typedef int32_t Index8 __attribute__((vector_size(32)));

template <int i0, int i1, int i2, int i3, int i4, int i5, int i6, int i7>
HM_INLINE Lanes8 shuffle8(Lanes8 a, Lanes8 b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, i0, i1, i2, i3, i4, i5, i6, i7);
#else
  return __builtin_shuffle(a, b, Index8{i0, i1, i2, i3, i4, i5, i6, i7});
#endif
}

// dst[j * dst_stride + i] = src[i * src_stride + j] for i, j < 8.
HM_INLINE void transpose_8x8(const float* src, int64_t src_stride, float* dst, int64_t dst_stride) {
  Lanes8 row[8], pair[8], quad[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) std::memcpy(&row[i], src + i * src_stride, sizeof row[i]);
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    pair[i] = shuffle8<0, 8, 1, 9, 4, 12, 5, 13>(row[i], row[i + 1]);
    pair[i + 1] = shuffle8<2, 10, 3, 11, 6, 14, 7, 15>(row[i], row[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    quad[i] = shuffle8<0, 1, 8, 9, 4, 5, 12, 13>(pair[i], pair[i + 2]);
    quad[i + 1] = shuffle8<2, 3, 10, 11, 6, 7, 14, 15>(pair[i], pair[i + 2]);
    quad[i + 2] = shuffle8<0, 1, 8, 9, 4, 5, 12, 13>(pair[i + 1], pair[i + 3]);
    quad[i + 3] = shuffle8<2, 3, 10, 11, 6, 7, 14, 15>(pair[i + 1], pair[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const Lanes8 low = shuffle8<0, 1, 2, 3, 8, 9, 10, 11>(quad[i], quad[i + 4]);
    const Lanes8 high = shuffle8<4, 5, 6, 7, 12, 13, 14, 15>(quad[i], quad[i + 4]);
    std::memcpy(dst + i * dst_stride, &low, sizeof low);
    std::memcpy(dst + (i + 4) * dst_stride, &high, sizeof high);
  }
}

}  // namespace handmill::HM_ISA
