// Loops over arrays in whole vectors, with one body for the full ones and the last, partial one.
#pragma once

#include "kernels/range.h"
#include "simd/simd.h"

namespace handmill::HM_ISA {

struct AllLanes {
  HM_INLINE Vec load(const float* p) const { return Vec::load(p); }
  HM_INLINE Vec load_or(const float* p, float) const { return Vec::load(p); }
  HM_INLINE Vec keep(Vec v, float) const { return v; }
  HM_INLINE void store(Vec v, float* p) const { v.store(p); }
};

// The first n lanes only.
struct SomeLanes {
  int64_t n;
  HM_INLINE Vec load(const float* p) const { return Vec::load_n(p, n); }
  // The other lanes hold `other`.
  HM_INLINE Vec load_or(const float* p, float other) const {
    return keep(Vec::load_n(p, n), other);
  }
  HM_INLINE Vec keep(Vec v, float other) const {
    return select(first_lanes(n), v, Vec::broadcast(other));
  }
  HM_INLINE void store(Vec v, float* p) const { v.store_n(p, n); }
};

// f(i, lanes) for every vector that starts at i = begin, begin + width, ... before end.
template <class F>
HM_INLINE void for_each_vector(int64_t begin, int64_t end, F f) {
  int64_t i = begin;
  for (; i + Vec::width <= end; i += Vec::width) f(i, AllLanes{});
  if (i < end) f(i, SomeLanes{end - i});
}

// The items that `blocks` cover when each covers per_block of `size` items.
HM_INLINE Range items_of(Range blocks, int64_t per_block, int64_t size) {
  const int64_t end = blocks.end * per_block;
  return {blocks.begin * per_block, end < size ? end : size};
}

HM_INLINE float first_lane(Vec v) {
  float x;
  v.store_n(&x, 1);
  return x;
}

}  // namespace handmill::HM_ISA
