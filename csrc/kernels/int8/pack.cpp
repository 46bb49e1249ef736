// int8 weights as the kernels read them, with the sums of their columns.
#include "kernels/int8/panels.h"
#include "kernels/range.h"

namespace handmill::HM_ISA {

void int8_pack(const Int8PackArgs& a, Range blocks, void*) {
  const Int8Panels panels(a.K, a.N);
  for (int64_t panel = blocks.begin; panel < blocks.end; ++panel) {
    const int64_t first = panel * kInt8Vectors * VecI::width;
    const int64_t width = int64_t{panels.vectors_of(panel)} * VecI::width;
    int32_t* sums = static_cast<int32_t*>(a.packed) + first;
    int8_t* out = static_cast<int8_t*>(a.packed) + panels.offset(panel);
    for (int64_t n = 0; n < width; ++n) sums[n] = 0;
    for (int64_t g = 0; g < panels.groups; ++g) {
      for (int64_t n = 0; n < width; ++n) {
        for (int64_t k = 4 * g; k < 4 * g + 4; ++k) {
          const bool inside = k < a.K && first + n < a.N;
          const int8_t w = inside ? a.w[k * a.row + (first + n) * a.col] : int8_t{0};
          sums[n] += w;
          *out++ = w;
        }
      }
    }
  }
}

void int4_pack(const Int4PackArgs& a, Range blocks, void*) {
  const Int4Panels panels(a.K, a.N);
  const int64_t of_row = ((a.turned ? a.K : a.N) + 1) / 2;
  const auto number = [&](int64_t k, int64_t n) {
    const int64_t row = a.turned ? n : k, column = a.turned ? k : n;
    const int byte = a.w[row * of_row + column / 2];
    return column % 2 == 0 ? ((byte & 15) ^ 8) - 8 : byte >> 4;
  };
  for (int64_t panel = blocks.begin; panel < blocks.end; ++panel) {
    const int64_t first = panel * kInt8Vectors * VecI::width;
    const int64_t width = int64_t{panels.vectors_of(panel)} * VecI::width;
    int32_t* sums = static_cast<int32_t*>(a.packed) + first;
    uint8_t* out = static_cast<uint8_t*>(a.packed) + panels.offset(panel);
    for (int64_t n = 0; n < width; ++n) sums[n] = 0;
    for (int64_t pair = 0; pair < panels.pairs; ++pair) {
      for (int64_t n = 0; n < width; ++n) {
        for (int64_t k = 8 * pair; k < 8 * pair + 4; ++k) {
          const bool inside = first + n < a.N;
          const int low = inside && k < a.K ? number(k, first + n) : 0;
          const int high = inside && k + 4 < a.K ? number(k + 4, first + n) : 0;
          sums[n] += low + high;
          *out++ = static_cast<uint8_t>((low + 8) | (high + 8) << 4);
        }
      }
    }
  }
}

void int8_depthwise_pack(const Int8DepthwisePackArgs& a, Range blocks, void*) {
  constexpr int W = VecI::width;
  const int64_t vectors = (a.N + W - 1) / W, rows = (a.taps[0] + 3) / 4 * 4;
  for (int64_t v = blocks.begin; v < blocks.end; ++v) {
    int32_t* sums = static_cast<int32_t*>(a.packed) + v * W;
    int8_t* out = static_cast<int8_t*>(a.packed) + 4 * vectors * W + v * W * rows * a.taps[1];
    for (int n = 0; n < W; ++n) sums[n] = 0;
    for (int64_t j = 0; j < a.taps[1]; ++j) {
      for (int64_t i = 0; i < rows; i += 4) {
        for (int64_t n = 0; n < W; ++n) {
          for (int64_t k = i; k < i + 4; ++k) {
            const bool inside = k < a.taps[0] && v * W + n < a.N;
            const int8_t w = inside ? a.w[(k * a.taps[1] + j) * a.N + v * W + n] : int8_t{0};
            sums[n] += w;
            *out++ = w;
          }
        }
      }
    }
  }
}

void int8_recurrent_pack(const Int8RecurrentPackArgs& a, Range blocks, void*) {
  constexpr int W = VecI::width;
  const int64_t vectors = (a.U + W - 1) / W, groups = (a.U + 3) / 4, width = a.G * W;
  for (int64_t v = blocks.begin; v < blocks.end; ++v) {
    int32_t* sums = static_cast<int32_t*>(a.packed) + v * width;
    int8_t* out = static_cast<int8_t*>(a.packed) + 4 * width * (vectors + v * groups);
    for (int64_t n = 0; n < width; ++n) sums[n] = 0;
    for (int64_t i = 0; i < 4 * groups; i += 4) {
      for (int64_t n = 0; n < width; ++n) {
        const int64_t gate = n / W, unit = v * W + n % W;
        for (int64_t k = i; k < i + 4; ++k) {
          const bool inside = k < a.U && unit < a.U;
          const int8_t w = inside ? a.r[(k * a.G + gate) * a.U + unit] : int8_t{0};
          sums[n] += w;
          *out++ = w;
        }
      }
    }
  }
}

}  // namespace handmill::HM_ISA
