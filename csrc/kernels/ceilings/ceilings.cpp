// What the machine can do at most: multiply-adds from registers, and streams through memory.
#include "kernels/ceilings/args.h"
#include "kernels/lanes.h"
#include "kernels/range.h"

namespace handmill::HM_ISA {
namespace {

// Enough to hide the latency of every machine we know, few enough for 16 registers.
constexpr int kChains = 12;
constexpr int kUnroll = 8;

HM_INLINE float sum_of(const Vec* sums, int count) {
  Vec total = sums[0];
  for (int i = 1; i < count; ++i) total = total + sums[i];
  return reduce_add(total);
}

HM_INLINE int64_t lanes_left(int64_t n) { return n < Vec::width ? n : Vec::width; }

float read(const float* x, int64_t n) {
  constexpr int64_t kStep = kUnroll * Vec::width;
  Vec sums[kUnroll];
#pragma GCC unroll 8
  for (int u = 0; u < kUnroll; ++u) sums[u] = Vec::zero();
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
#pragma GCC unroll 8
    for (int u = 0; u < kUnroll; ++u) sums[u] = sums[u] + Vec::load(x + i + u * Vec::width);
  }
  for (; i < n; i += Vec::width) sums[0] = sums[0] + Vec::load_n(x + i, lanes_left(n - i));
  return sum_of(sums, kUnroll);
}

void scale(const float* x, float* y, int64_t n, Vec factor) {
  constexpr int64_t kStep = 4 * Vec::width;
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) {
      (Vec::load(x + i + u * Vec::width) * factor).store(y + i + u * Vec::width);
    }
  }
  for (; i < n; i += Vec::width) {
    const int64_t lanes = lanes_left(n - i);
    (Vec::load_n(x + i, lanes) * factor).store_n(y + i, lanes);
  }
}

template <int kCount>
void update(const UpdateStreamsArgs& a, Range items) {
  for_each_vector(items.begin, items.end, [&](int64_t i, auto lanes) {
    const Vec y = lanes.load(a.y + i);
#pragma GCC unroll 3
    for (int j = 0; j < kCount; ++j) lanes.store(lanes.load(a.x[j] + i) + y, a.x[j] + i);
  });
}

}  // namespace

void peak(const PeakArgs& a, Range blocks, void*) {
  const Vec factor = Vec::broadcast(a.factor), addend = Vec::broadcast(a.addend);
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    Vec chains[kChains];
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) chains[c] = Vec::broadcast(static_cast<float>(c));
    for (int64_t left = a.flops; left > 0; left -= int64_t{2} * kChains * Vec::width) {
#pragma GCC unroll 12
      for (int c = 0; c < kChains; ++c) chains[c] = fma(chains[c], factor, addend);
    }
    a.sink[block] = sum_of(chains, kChains);
  }
}

void stream(const StreamArgs& a, Range blocks, void*) {
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const int64_t begin = block * a.per_block;
    const int64_t n = a.size - begin < a.per_block ? a.size - begin : a.per_block;
    if (a.y == nullptr) {
      a.sink[block] = read(a.x + begin, n);
    } else {
      scale(a.x + begin, a.y + begin, n, Vec::broadcast(a.factor));
    }
  }
}

void update_streams(const UpdateStreamsArgs& a, Range blocks, void*) {
  const Range items = items_of(blocks, a.per_block, a.size);
  switch (a.count) {
    case 1:
      return update<1>(a, items);
    case 2:
      return update<2>(a, items);
    default:
      return update<3>(a, items);
  }
}

}  // namespace handmill::HM_ISA
