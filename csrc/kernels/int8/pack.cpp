// Panels of int8 weights with the sums of their columns.
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

}  // namespace handmill::HM_ISA
