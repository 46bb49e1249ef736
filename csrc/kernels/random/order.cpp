// A random order: numbers sorted by random words, by merging runs of 1, 2, 4, ...
#include <cstdint>
#include <cstring>

#include "kernels/random/args.h"
#include "kernels/range.h"
#include "simd/simd.h"

namespace handmill::HM_ISA {
namespace {

void merge(const uint64_t* from, int64_t begin, int64_t middle, int64_t end, uint64_t* to) {
  int64_t left = begin, right = middle;
  for (int64_t i = begin; i < end; ++i) {
    const bool take_left = right >= end || (left < middle && from[left] <= from[right]);
    to[i] = from[take_left ? left++ : right++];
  }
}

}  // namespace

void random_order(const RandomOrderArgs& a, Range, void*) {
  uint64_t *from = a.items, *to = a.memory;
  for (int64_t i = 0; i < a.n; ++i) {
    uint32_t word;
    std::memcpy(&word, a.words + i, sizeof word);
    from[i] = uint64_t{word} << 32 | static_cast<uint64_t>(i);
  }
  for (int64_t run = 1; run < a.n; run *= 2) {
    for (int64_t begin = 0; begin < a.n; begin += 2 * run) {
      const int64_t middle = begin + run < a.n ? begin + run : a.n;
      const int64_t end = middle + run < a.n ? middle + run : a.n;
      merge(from, begin, middle, end, to);
    }
    uint64_t* sorted = to;
    to = from;
    from = sorted;
  }
  for (int64_t i = 0; i < a.n; ++i) a.y[i] = static_cast<int32_t>(from[i] & 0xffffffffu);
}

}  // namespace handmill::HM_ISA
