// How int8 matrices lie in panels; the same for both kinds of dot products of a level.
#pragma once

#include "kernels/int8/args.h"
#include "simd/simd.h"

namespace handmill::HM_ISA {

#if defined(HM_ISA_AVX512)
inline constexpr int kInt8Vectors = 4;
#else
inline constexpr int kInt8Vectors = 2;
#endif

struct Int8Panels {
  int64_t groups;   // of four rows
  int64_t vectors;  // of columns

  HM_INLINE Int8Panels(int64_t K, int64_t N)
      : groups((K + 3) / 4), vectors((N + VecI::width - 1) / VecI::width) {}

  HM_INLINE int64_t count() const { return (vectors + kInt8Vectors - 1) / kInt8Vectors; }
  HM_INLINE int vectors_of(int64_t panel) const {
    const int64_t left = vectors - panel * kInt8Vectors;
    return static_cast<int>(left < kInt8Vectors ? left : kInt8Vectors);
  }
  // Where a panel begins, in bytes.
  HM_INLINE int64_t offset(int64_t panel) const {
    return 4 * VecI::width * (vectors + panel * kInt8Vectors * groups);
  }
};

// The same of 4-bit numbers; `pairs` of groups.
struct Int4Panels : Int8Panels {
  int64_t pairs;

  HM_INLINE Int4Panels(int64_t K, int64_t N) : Int8Panels(K, N), pairs((K + 15) / 16 * 2) {}

  HM_INLINE int64_t offset(int64_t panel) const {
    return 4 * VecI::width * (vectors + panel * kInt8Vectors * pairs);
  }
};

}  // namespace handmill::HM_ISA
