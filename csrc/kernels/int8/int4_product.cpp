// Products of rows of bytes by matrices of 4-bit numbers, which are unpacked in registers.
//
// Weights are stored 8 more than they are: sum x (w + 8) = sum x w + 8 sum x.
#include "kernels/int8/finish.h"
#include "kernels/int8/panels.h"
#include "kernels/int8/rows.h"
#include "simd/int4_dot.h"

namespace handmill::HM_ISA {
namespace {

constexpr int kTileRows = 4;

HM_INLINE int64_t share(int64_t size, int64_t parts, int64_t i) { return size * i / parts; }

struct Rows {
  int64_t begin, end;
  int64_t stride;  // bytes between rows
  uint8_t* bytes;  // of row `begin`; 0 behind its end
  float* steps;
  int32_t* sums;  // 8 times those of the bytes of a row
};

void prepare(const Int8ProductArgs& a, const Rows& rows) {
  for (int64_t m = rows.begin; m < rows.end; ++m) {
    const int64_t r = m - rows.begin;
    uint8_t* bytes = rows.bytes + r * rows.stride;
    if (a.source == Int8Source::kFloats) {
      rows.steps[r] = quantize(static_cast<const float*>(a.x) + m * a.K, bytes, a.K);
    } else {
      std::memcpy(bytes, static_cast<const uint8_t*>(a.x) + m * a.K, static_cast<size_t>(a.K));
    }
    for (int64_t k = a.K; k < rows.stride; ++k) bytes[k] = 0;
    int32_t sum = 0;
    for (int64_t k = 0; k < a.K; ++k) sum += bytes[k];
    rows.sums[r] = 8 * sum;
  }
}

using Sums = int32_t[kTileRows][kInt8Vectors * VecI::width];

HM_INLINE VecI load_group(const uint8_t* p) {
  int32_t word;
  std::memcpy(&word, p, sizeof word);
  return VecI::broadcast(word);
}

// A call of its own: inlined, what else is in registers would leave some sums in memory.
template <int kRows, int kVectors>
[[gnu::noinline]] void add_up(const Rows& rows, int64_t first, const uint8_t* panel, int64_t pairs,
                              const int32_t* start, Sums& out) {
  constexpr int kBytes = 4 * VecI::width;
  const int64_t stride = rows.stride;
  const uint8_t* x = rows.bytes + first * stride;
  VecI sums[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    const VecI more = VecI::broadcast(rows.sums[first + r]);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = VecI::load(start + v * VecI::width) - more;
    }
  }
#pragma GCC unroll 1
  for (int64_t pair = 0; pair < pairs; pair += 2) {
    NibbleGroups one[kVectors], two[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      one[v] = load_nibbles(panel + v * kBytes);
      two[v] = load_nibbles(panel + (kVectors + v) * kBytes);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const uint8_t* of_row = x + r * stride;
      const VecI a = load_group(of_row), b = load_group(of_row + 4);
      const VecI c = load_group(of_row + 8), d = load_group(of_row + 12);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const ShortSums low = byte_products(a, one[v].first) + byte_products(b, one[v].second);
        const ShortSums high = byte_products(c, two[v].first) + byte_products(d, two[v].second);
        sums[r][v] = sums[r][v] + widened_sums(low + high);
      }
    }
    panel += 2 * kVectors * kBytes;
    x += 4 * kGroupsAtOnce;
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[r][v].store(out[r] + v * VecI::width);
  }
}

template <int kRows>
HM_INLINE void add_up(int vectors, const Rows& rows, int64_t first, const uint8_t* panel,
                      int64_t pairs, const int32_t* start, Sums& out) {
  switch (vectors) {
    case 1:
      return add_up<kRows, 1>(rows, first, panel, pairs, start, out);
    case 2:
      return add_up<kRows, 2>(rows, first, panel, pairs, start, out);
    default:
      if constexpr (kInt8Vectors == 4) {
        if (vectors == 3) return add_up<kRows, 3>(rows, first, panel, pairs, start, out);
        return add_up<kRows, 4>(rows, first, panel, pairs, start, out);
      }
  }
}

}  // namespace

void int4_product(const Int8ProductArgs& a, Range blocks, void* scratch) {
  const Int4Panels panels(a.K, a.N);
  const auto* packed = static_cast<const uint8_t*>(a.packed);
  const auto* column_sums = static_cast<const int32_t*>(a.packed);
  const int32_t zero = a.zero == nullptr ? 128 : static_cast<int32_t>(*a.zero);
  const int64_t most = (a.M + a.blocks_m - 1) / a.blocks_m;  // rows of a block
  // Scratch: steps, sums of rows, then the bytes of all rows.
  auto* steps = static_cast<float*>(scratch);
  auto* sums_of_rows = static_cast<int32_t*>(scratch) + most;
  auto* bytes = static_cast<uint8_t*>(scratch) + (8 * most + 63) / 64 * 64;
  const Int8Finish finish(a);
  const bool has_steps = a.source == Int8Source::kFloats;
  int64_t prepared = -1;
  Rows rows{};
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const int64_t i = block % a.blocks_m, j = block / a.blocks_m;
    if (i != prepared) {
      rows = {.begin = share(a.M, a.blocks_m, i),
              .end = share(a.M, a.blocks_m, i + 1),
              .stride = 8 * panels.pairs,
              .bytes = bytes,
              .steps = steps,
              .sums = sums_of_rows};
      prepare(a, rows);
      prepared = i;
    }
    const int64_t count = rows.end - rows.begin, end = share(panels.count(), a.blocks_n, j + 1);
    for (int64_t panel = share(panels.count(), a.blocks_n, j); panel < end; ++panel) {
      const int vectors = panels.vectors_of(panel);
      const int64_t first = panel * kInt8Vectors * VecI::width;
      const int64_t width = int64_t{vectors} * VecI::width;
      const int64_t last = first + width < a.N ? first + width : a.N;
      const uint8_t* w = packed + panels.offset(panel);
      alignas(64) int32_t start[kInt8Vectors * VecI::width];
      for (int v = 0; v < vectors; ++v) {
        const int64_t n = v * VecI::width;
        (VecI::broadcast(-zero) * VecI::load(column_sums + first + n)).store(start + n);
      }
      for (int64_t r = 0; r < count;) {
        alignas(64) Sums sums;
        int done = 1;
        if (count - r >= kTileRows) {
          add_up<kTileRows>(vectors, rows, r, w, panels.pairs, start, sums);
          done = kTileRows;
        } else if (count - r >= 2) {
          add_up<2>(vectors, rows, r, w, panels.pairs, start, sums);
          done = 2;
        } else {
          add_up<1>(vectors, rows, r, w, panels.pairs, start, sums);
        }
        for (int t = 0; t < done; ++t, ++r) {
          finish.row(sums[t], has_steps ? rows.steps + r : nullptr, rows.begin + r, first, last);
        }
      }
    }
  }
}

}  // namespace handmill::HM_ISA
