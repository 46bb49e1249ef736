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

namespace {

// Two numbers in the bytes of a word: those of 8 and more are negative.
HM_INLINE uint16_t both_numbers(uint8_t pair) {
  const uint32_t word = (pair & 0x0fu) | (pair & 0xf0u) << 4;
  return static_cast<uint16_t>(word | (word & 0x0808u) * 0x1e);
}

HM_INLINE void unpack_row(const int8_t* __restrict x, int8_t* __restrict y, int64_t size) {
  for (int64_t i = 0; i < size / 2; ++i) {
    const uint16_t both = both_numbers(static_cast<uint8_t>(x[i]));
    std::memcpy(y + 2 * i, &both, sizeof both);
  }
  if (size % 2 != 0) {
    const uint16_t both = both_numbers(static_cast<uint8_t>(x[size / 2]));
    y[size - 1] = static_cast<int8_t>(both & 0xff);
  }
}

}  // namespace

void int4_unpack(const Int4UnpackArgs& a, Range blocks, void*) {
  const Range rows = items_of(blocks, a.rows_per_block, a.rows);
  const int64_t pairs = (a.size + 1) / 2;
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    unpack_row(a.x + r * pairs, a.y + r * a.size, a.size);
  }
}

}  // namespace handmill::HM_ISA
