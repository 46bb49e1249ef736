#include "kernels/convolution/window_tile.h"

#include <utility>

#include "kernels/matmul/tile.h"

namespace handmill::HM_ISA {
namespace {

constexpr int64_t kFloat = sizeof(float);
constexpr int kMaxRows = 8;
constexpr int kMaxVectors = 4;

template <int MR, int NV, bool kMasked>
void window_tile(const WindowTile& t) {
  constexpr int W = Vec::width;
  Vec acc[MR][NV];
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) acc[m][v] = Vec::zero();
  }
  const int64_t a_step = t.a_step * kFloat, b_stride = t.b_stride, last = t.last_lanes;
  const char* a_m[MR];  // in bytes: GCC would make a second loop for a step of one float
#pragma GCC unroll 8
  for (int m = 0; m < MR; ++m) a_m[m] = reinterpret_cast<const char*>(t.a + t.a_offset[m]);
  // One loop over all segments: around a loop for each, GCC keeps the sums in memory.
  const WindowSegment* segment = t.segments;
  int64_t left = 0, a_k = 0;
  const float* b = t.b;
  const auto multiply = [&] {
    Vec b_k[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      b_k[v] = kMasked && v == NV - 1 ? Vec::load_n(b + v * W, last) : Vec::load(b + v * W);
    }
#pragma GCC unroll 8
    for (int m = 0; m < MR; ++m) {
      const Vec a_mk = Vec::broadcast(*reinterpret_cast<const float*>(a_m[m] + a_k));
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) acc[m][v] = fma(a_mk, b_k[v], acc[m][v]);
    }
    a_k += a_step;
    b += b_stride;
  };
#pragma GCC unroll 1
  for (int64_t k = t.num_segments * t.length; k > 0; --k) {
    if (left == 0) {
      a_k = segment->a * kFloat;
      b = t.b + segment->b;
      left = t.length;
      ++segment;
    }
    multiply();
    --left;
    if constexpr (NV == 1) {  // few products for what goes around them
      if (left >= 3) {
        multiply();
        multiply();
        multiply();
        left -= 3;
        k -= 3;
      }
    }
  }

  const auto offset = [&](int m) { return t.c_offset[m]; };
  finish_tile<MR, NV>(acc, {t.c, t.scale, t.bias, t.gate, t.residual, last, t.add_to_c, t.relu},
                      offset, offset);
}

struct KernelTable {
  WindowKernel of[kMaxRows][kMaxVectors];
};

template <int MR, int NV, bool kMasked>
constexpr WindowKernel entry() {
  if constexpr (NV <= kMatmulTile.vectors && tile_exists(MR, NV))
    return window_tile<MR, NV, kMasked>;
  return nullptr;
}

template <bool kMasked>
constexpr KernelTable table() {
  KernelTable found{};
  const auto fill = [&]<int... MR>(std::integer_sequence<int, MR...>) {
    ((found.of[MR][0] = entry<MR + 1, 1, kMasked>()), ...);
    ((found.of[MR][1] = entry<MR + 1, 2, kMasked>()), ...);
    ((found.of[MR][2] = entry<MR + 1, 3, kMasked>()), ...);
    ((found.of[MR][3] = entry<MR + 1, 4, kMasked>()), ...);
  };
  fill(std::make_integer_sequence<int, kMaxRows>());
  return found;
}

// With mask registers one kernel does for both kinds of b.
constexpr KernelTable kKernels[2] = {table<Vec::width == 16>(), table<true>()};

}  // namespace

WindowKernel window_kernel(int rows, int vectors, bool masked) {
  return kKernels[masked].of[rows - 1][vectors - 1];
}

}  // namespace handmill::HM_ISA
