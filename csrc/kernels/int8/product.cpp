// Products of int8 matrices: rows are quantized into scratch, a register tile of sums goes along K
// once, and each row of sums is scaled and finished.
#include "kernels/int8/finish.h"
#include "kernels/int8/panels.h"
#include "kernels/int8/rows.h"

namespace handmill::HM_ISA {
namespace {

#if defined(HM_ISA_AVX512)
constexpr int kTileRows = 6;
#elif defined(HM_ISA_AVX2_VNNI)
constexpr int kTileRows = 6;
#else
constexpr int kTileRows = 3;  // 6 sums, 4 halves of weights, 2 of inputs: 16 registers hold them
#endif

HM_INLINE int64_t share(int64_t size, int64_t parts, int64_t i) { return size * i / parts; }

// --- rows ----------------------------------------------------------------------------------------

// Short runs of bytes, where a call would cost as much.
HM_INLINE void copy_bytes(uint8_t* to, const uint8_t* from, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) std::memcpy(to + i, from + i, 16);
  if (n >= 16) {
    if (i < n) std::memcpy(to + n - 16, from + n - 16, 16);
    return;
  }
  if (n >= 8) {
    std::memcpy(to, from, 8);
    std::memcpy(to + n - 8, from + n - 8, 8);
    return;
  }
  for (; i < n; ++i) to[i] = from[i];
}

// Which window a row is.
struct Place {
  int64_t image = 0, row = 0, column = 0;

  Place() = default;
  HM_INLINE Place(const Int8Windows& w, int64_t index)
      : image(index / (w.rows * w.columns)),
        row(index / w.columns % w.rows),
        column(index % w.columns) {}

  HM_INLINE void next(const Int8Windows& w) {
    if (++column < w.columns) return;
    column = 0;
    if (++row < w.rows) return;
    row = 0;
    ++image;
  }
};

// The bytes of one window, taps by channels.
void gather_window(const Int8Windows& w, const uint8_t* images, const Place& at, uint8_t zero,
                   uint8_t* out) {
  const uint8_t* base = images + at.image * (w.H * w.W * w.C);
  const int64_t top = at.row * w.strides[0] - w.before[0];
  const int64_t left = at.column * w.strides[1] - w.before[1];
  const int64_t last = left + (w.taps[1] - 1) * w.dilations[1];
  const int64_t size = w.taps[1] * w.C;
  for (int64_t i = 0; i < w.taps[0]; ++i, out += size) {
    const int64_t h = top + i * w.dilations[0];
    if (h < 0 || h >= w.H) {
      std::memset(out, zero, static_cast<size_t>(size));
      continue;
    }
    const uint8_t* line = base + h * w.W * w.C;
    if (w.dilations[1] == 1 && left >= 0 && last < w.W) {
      copy_bytes(out, line + left * w.C, size);
      continue;
    }
    for (int64_t j = 0; j < w.taps[1]; ++j) {
      const int64_t v = left + j * w.dilations[1];
      uint8_t* tap = out + j * w.C;
      if (v < 0 || v >= w.W) {
        std::memset(tap, zero, static_cast<size_t>(w.C));
      } else {
        copy_bytes(tap, line + v * w.C, w.C);
      }
    }
  }
}

struct Rows {
  int64_t begin, end;
  int32_t* words;  // groups of row `begin`
  int64_t stride;  // words between rows
  float* steps;
};

void prepare(const Int8ProductArgs& a, const Rows& rows, int64_t groups, uint8_t zero,
             uint8_t* line) {
  const bool has_windows = a.source == Int8Source::kWindows;
  Place place = has_windows ? Place(a.windows, rows.begin) : Place();
  for (int64_t m = rows.begin; m < rows.end; ++m) {
    const int64_t r = m - rows.begin;
    int32_t* words = rows.words + r * rows.stride;
    uint8_t* bytes = kGroupWords == 1 ? reinterpret_cast<uint8_t*>(words) : line;
    if (a.source == Int8Source::kFloats) {
      rows.steps[r] = quantize(static_cast<const float*>(a.x) + m * a.K, bytes, a.K);
    } else if (a.source == Int8Source::kBytes) {
      std::memcpy(bytes, static_cast<const uint8_t*>(a.x) + m * a.K, static_cast<size_t>(a.K));
    } else {
      gather_window(a.windows, static_cast<const uint8_t*>(a.x), place, zero, bytes);
      place.next(a.windows);
    }
    make_groups(bytes, a.K, groups, words);
  }
}

// --- sums ----------------------------------------------------------------------------------------

using Sums = int32_t[kTileRows][kInt8Vectors * VecI::width];

// A panel as it is packed, or widened once for all rows of a block.
struct Panel {
  const int8_t* packed;
  const int32_t* wide;  // null: not widened
};

// A call of its own: inlined, what else is in registers would leave some sums in memory.
template <int kRows, int kVectors, bool kWide>
[[gnu::noinline]] void add_up(const int32_t* x, int64_t stride, const Panel& panel, int64_t groups,
                              const int32_t* start, Sums& out) {
  const int8_t* packed = panel.packed;
  const int32_t* wide = panel.wide;
  VecI sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[r][v] = VecI::load(start + v * VecI::width);
  }
  for (int64_t g = 0; g < groups; ++g) {
    Groups w[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      if constexpr (kWide) {
        w[v] = load_wide(wide + v * kWideWords * VecI::width);
      } else {
        w[v] = load_groups(packed + v * 4 * VecI::width);
      }
    }
    packed += kVectors * 4 * VecI::width;
    wide += kWide ? kVectors * kWideWords * VecI::width : 0;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Group group = broadcast_group(x + r * stride + g * kGroupWords);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[r][v] = add_products(sums[r][v], group, w[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[r][v].store(out[r] + v * VecI::width);
  }
}

template <int kRows, bool kWide>
HM_INLINE void add_up(int vectors, const int32_t* x, int64_t stride, const Panel& panel,
                      int64_t groups, const int32_t* start, Sums& out) {
  switch (vectors) {
    case 1:
      return add_up<kRows, 1, kWide>(x, stride, panel, groups, start, out);
    case 2:
      return add_up<kRows, 2, kWide>(x, stride, panel, groups, start, out);
    default:
      if constexpr (kInt8Vectors == 4) {
        if (vectors == 3) return add_up<kRows, 3, kWide>(x, stride, panel, groups, start, out);
        return add_up<kRows, 4, kWide>(x, stride, panel, groups, start, out);
      }
  }
}

template <int kRows>
HM_INLINE void add_up(int vectors, const int32_t* x, int64_t stride, const Panel& panel,
                      int64_t groups, const int32_t* start, Sums& out) {
  if constexpr (kWideWords > 1) {
    if (panel.wide != nullptr) {
      return add_up<kRows, true>(vectors, x, stride, panel, groups, start, out);
    }
  }
  add_up<kRows, false>(vectors, x, stride, panel, groups, start, out);
}

// Fewer rows do not pay for widening a panel.
constexpr int64_t kRowsToWiden = 4 * kTileRows;

Panel widened(const int8_t* packed, int64_t vectors, int64_t rows, int32_t* wide) {
  if (kWideWords == 1 || rows < kRowsToWiden) return {packed, nullptr};
  for (int64_t i = 0; i < vectors; ++i) {
    store_wide(load_groups(packed + i * 4 * VecI::width), wide + i * kWideWords * VecI::width);
  }
  return {packed, wide};
}

}  // namespace

void int8_product(const Int8ProductArgs& a, Range blocks, void* scratch) {
  const Int8Panels panels(a.K, a.N);
  const auto* packed = static_cast<const int8_t*>(a.packed);
  const auto* column_sums = static_cast<const int32_t*>(a.packed);
  const int32_t zero = a.zero == nullptr ? 128 : static_cast<int32_t>(*a.zero);
  const int64_t most = (a.M + a.blocks_m - 1) / a.blocks_m;  // rows of a block
  // Scratch: steps, one row of bytes, a panel, then the groups of all rows.
  auto* steps = static_cast<float*>(scratch);
  auto* line = static_cast<uint8_t*>(scratch) + (4 * most + 63) / 64 * 64;
  auto* wide = reinterpret_cast<int32_t*>(line + (4 * panels.groups + 63) / 64 * 64);
  auto* words =
      wide + (kWideWords > 1 ? kWideWords * kInt8Vectors * VecI::width * panels.groups : 0);
  const Int8Finish finish(a);
  const bool has_steps = a.source == Int8Source::kFloats;
  int64_t prepared = -1;
  Rows rows{};
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const int64_t i = block % a.blocks_m, j = block / a.blocks_m;
    if (i != prepared) {
      rows = {share(a.M, a.blocks_m, i), share(a.M, a.blocks_m, i + 1), words,
              panels.groups * kGroupWords, steps};
      prepare(a, rows, panels.groups, static_cast<uint8_t>(zero), line);
      prepared = i;
    }
    const int64_t end = share(panels.count(), a.blocks_n, j + 1);
    for (int64_t panel = share(panels.count(), a.blocks_n, j); panel < end; ++panel) {
      const int vectors = panels.vectors_of(panel);
      const int64_t first = panel * kInt8Vectors * VecI::width;
      const int64_t width = int64_t{vectors} * VecI::width;
      const int64_t last = first + width < a.N ? first + width : a.N;
      alignas(64) int32_t start[kInt8Vectors * VecI::width];
      for (int v = 0; v < vectors; ++v) {
        const int64_t n = v * VecI::width;
        (VecI::broadcast(-zero) * VecI::load(column_sums + first + n)).store(start + n);
      }
      const Panel w = widened(packed + panels.offset(panel), vectors * panels.groups,
                              rows.end - rows.begin, wide);
      for (int64_t m = rows.begin; m < rows.end;) {
        const int32_t* x = rows.words + (m - rows.begin) * rows.stride;
        const int64_t left = rows.end - m;
        alignas(64) Sums sums;
        int count = 1;
        if (left >= kTileRows) {
          add_up<kTileRows>(vectors, x, rows.stride, w, panels.groups, start, sums);
          count = kTileRows;
        } else if (left >= kTileRows / 2 + 1) {
          add_up<kTileRows / 2 + 1>(vectors, x, rows.stride, w, panels.groups, start, sums);
          count = kTileRows / 2 + 1;
        } else if (left >= 2) {
          add_up<2>(vectors, x, rows.stride, w, panels.groups, start, sums);
          count = 2;
        } else {
          add_up<1>(vectors, x, rows.stride, w, panels.groups, start, sums);
        }
        for (int r = 0; r < count; ++r) {
          const float* step = has_steps ? rows.steps + (m + r - rows.begin) : nullptr;
          finish.row(sums[r], step, m + r, first, last);
        }
        m += count;
      }
    }
  }
}

}  // namespace handmill::HM_ISA
