// Numbers as bytes of a fixed step, and numbers of 4 bits out of bytes.
#include "kernels/int8/args.h"
#include "kernels/lanes.h"
#include "simd/int8_dot.h"

namespace handmill::HM_ISA {

void to_bytes(const ToBytesArgs& a, Range blocks, void*) {
  const ByteFormat format(a.format);
  const Range items = items_of(blocks, a.per_block, a.size);
  for_each_vector(items.begin, items.end, [&](int64_t i, auto lanes) {
    const int64_t left = items.end - i;
    store_bytes(format.of(lanes.load(a.x + i)), a.y + i, left < VecI::width ? left : VecI::width);
  });
}

void int4_unpack(const Int4UnpackArgs& a, Range blocks, void*) {
  const Range rows = items_of(blocks, a.rows_per_block, a.rows);
  const int64_t pairs = (a.size + 1) / 2;
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    const int8_t* x = a.x + r * pairs;
    int8_t* y = a.y + r * a.size;
    for (int64_t i = 0; i < a.size / 2; ++i) {
      y[2 * i] = static_cast<int8_t>(static_cast<int8_t>(x[i] << 4) >> 4);
      y[2 * i + 1] = static_cast<int8_t>(x[i] >> 4);
    }
    if (a.size % 2 != 0) {
      y[a.size - 1] = static_cast<int8_t>(static_cast<int8_t>(x[pairs - 1] << 4) >> 4);
    }
  }
}

}  // namespace handmill::HM_ISA
