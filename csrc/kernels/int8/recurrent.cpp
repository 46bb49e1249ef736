// Recurrent layers whose products with the state are of bytes: some rows of the batch through all
// steps, by one thread. Formula and layout: args.h.
#include "kernels/int8/args.h"
#include "kernels/int8/plain_gates.h"
#include "kernels/int8/rows.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = VecI::width;
#if defined(HM_ISA_AVX512)
constexpr int kTileRows = 4;
#else
constexpr int kTileRows = 2;  // with four gates 8 sums, 4 words of inputs, 2 of weights
#endif

template <RecurrentKind kKind>
constexpr int kGates = kKind == RecurrentKind::lstm  ? 4
                       : kKind == RecurrentKind::gru ? 3
                                                     : 1;

// The rows of a block between steps.
struct State {
  float *h, *c;  // rows of `stride` floats
  int32_t* words;
  float* steps;
  uint8_t* line;     // the bytes of one row
  int32_t* widened;  // R
  int64_t stride, groups, begin, rows;
};

// R as it is read: bytes, or widened once for all steps of a block.
template <bool kWide>
HM_INLINE Groups weights_at(const int8_t* packed, const int32_t* widened, int64_t i) {
  if constexpr (kWide) return load_wide(widened + i * kWideWords * W);
  return load_groups(packed + i * 4 * W);
}

template <RecurrentKind kKind>
using Sums = int32_t[kTileRows][kGates<kKind>][W];

// A call of its own: inlined, what gates have in registers would leave some sums in memory.
template <RecurrentKind kKind, int kRows, bool kWide>
[[gnu::noinline]] void products(const Int8RecurrentArgs& a, const State& s, int64_t vector,
                                int64_t row, Sums<kKind>& out) {
  VecI sums[kRows][kGates<kKind>];
  constexpr int G = kGates<kKind>;
  const int64_t vectors = s.stride / W;
  const int32_t* column_sums = static_cast<const int32_t*>(a.packed) + vector * G * W;
  const auto* packed = static_cast<const int8_t*>(a.packed) + 4 * vectors * G * W;
#pragma GCC unroll 4
  for (int g = 0; g < G; ++g) {
    const VecI start = VecI::broadcast(-128) * VecI::load(column_sums + g * W);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sums[r][g] = start;
  }
  const int64_t stride = s.groups * kGroupWords;
  const int32_t* x = s.words + row * stride;
  int64_t i = vector * s.groups * G;
  for (int64_t k = 0; k < s.groups; ++k, i += G, x += kGroupWords) {
    Group of_row[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) of_row[r] = broadcast_group(x + r * stride);
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
      const Groups w = weights_at<kWide>(packed, s.widened, i + g);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) sums[r][g] = add_products(sums[r][g], of_row[r], w);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) sums[r][g].store(out[r][g]);
  }
}

// The state of one row and vector of units after a step that counts.
template <RecurrentKind kKind>
HM_INLINE Vec advance(const Int8RecurrentArgs& a, const State& s, const float* z, float step,
                      const int32_t (&sums)[kGates<kKind>][W], int64_t at, int64_t unit,
                      int64_t n) {
  constexpr int G = kGates<kKind>;
  const Vec of_row = Vec::broadcast(step);
  Vec inner[G];
#pragma GCC unroll 4
  for (int g = 0; g < G; ++g) {
    const Vec factor = of_row * Vec::load_n(a.factors + g * a.U + unit, n);
    inner[g] = to_float(VecI::load(sums[g])) * factor;
  }
  const auto of_inputs = [&](int g) { return Vec::load_n(z + g * a.U + unit, n); };
  if constexpr (kKind == RecurrentKind::lstm) {
    const Vec input = plain_sigmoid(of_inputs(0) + inner[0]);
    const Vec forget = plain_sigmoid(of_inputs(1) + inner[1]);
    const Vec candidate = plain_tanh(of_inputs(2) + inner[2]);
    const Vec output = plain_sigmoid(of_inputs(3) + inner[3]);
    const Vec c = forget * Vec::load(s.c + at) + input * candidate;
    c.store(s.c + at);
    return output * plain_tanh(c);
  } else if constexpr (kKind == RecurrentKind::gru) {
    const Vec keep = plain_sigmoid(of_inputs(0) + inner[0]);
    const Vec reset = plain_sigmoid(of_inputs(1) + inner[1]);
    const Vec of_state = inner[2] + Vec::load_n(a.bias + unit, n);
    const Vec candidate = plain_tanh(of_inputs(2) + reset * of_state);
    return keep * Vec::load(s.h + at) + (Vec::broadcast(1.0f) - keep) * candidate;
  } else {
    return plain_tanh(of_inputs(0) + inner[0]);
  }
}

template <RecurrentKind kKind, int kRows, bool kWide>
void tile(const Int8RecurrentArgs& a, const State& s, int64_t t, int64_t vector, int64_t row) {
  constexpr int G = kGates<kKind>;
  alignas(64) Sums<kKind> sums;
  products<kKind, kRows, kWide>(a, s, vector, row, sums);
  const int64_t unit = vector * W, n = a.U - unit < W ? a.U - unit : W;
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    const int64_t at = (row + r) * s.stride + unit, of_step = (s.begin + row + r) * a.T + t;
    if (a.mask == nullptr || a.mask[of_step] != 0) {
      const float* z = a.z + of_step * G * a.U;
      advance<kKind>(a, s, z, s.steps[row + r], sums[r], at, unit, n).store(s.h + at);
    }
    Vec::load(s.h + at).store_n(a.y + of_step * a.U + unit, n);
  }
}

template <RecurrentKind kKind, bool kWide>
void run_steps(const Int8RecurrentArgs& a, const State& s) {
  for (int64_t i = 0; i < a.T; ++i) {
    const int64_t t = a.backwards ? a.T - 1 - i : i;
    for (int64_t r = 0; r < s.rows; ++r) {
      int32_t* words = s.words + r * s.groups * kGroupWords;
      uint8_t* bytes = kGroupWords == 1 ? reinterpret_cast<uint8_t*>(words) : s.line;
      s.steps[r] = quantize(s.h + r * s.stride, bytes, a.U);
      make_groups(bytes, a.U, s.groups, words);
    }
    // A panel of R serves all rows while it lies in the first-level cache.
    for (int64_t vector = 0; vector < s.stride / W; ++vector) {
      int64_t r = 0;
      for (; r + kTileRows <= s.rows; r += kTileRows) {
        tile<kKind, kTileRows, kWide>(a, s, t, vector, r);
      }
      for (; r < s.rows; ++r) tile<kKind, 1, kWide>(a, s, t, vector, r);
    }
  }
}

template <RecurrentKind kKind>
void run(const Int8RecurrentArgs& a, Range blocks, void* scratch) {
  constexpr int G = kGates<kKind>;
  State s{};
  s.stride = (a.U + W - 1) / W * W;
  s.groups = (a.U + 3) / 4;
  const int64_t all = s.stride * s.groups * G / W;  // groups of R
  // Scratch: R, the state, the groups of all rows, one row of bytes, steps.
  s.widened = static_cast<int32_t*>(scratch);
  s.h = static_cast<float*>(scratch) + (kWideWords > 1 ? all * kWideWords * W : 0);
  s.c = s.h + a.rows_per_block * s.stride;
  s.words = reinterpret_cast<int32_t*>(s.c + a.rows_per_block * s.stride);
  s.steps = reinterpret_cast<float*>(s.words + a.rows_per_block * s.groups * kGroupWords);
  s.line = reinterpret_cast<uint8_t*>(s.steps + a.rows_per_block);
  bool widened = false;
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    s.begin = block * a.rows_per_block;
    s.rows = a.B - s.begin < a.rows_per_block ? a.B - s.begin : a.rows_per_block;
    for (int64_t r = 0; r < s.rows; ++r) {
      std::memcpy(s.h + r * s.stride, a.h0 + (s.begin + r) * a.U, sizeof(float) * a.U);
      if (kKind == RecurrentKind::lstm) {
        std::memcpy(s.c + r * s.stride, a.c0 + (s.begin + r) * a.U, sizeof(float) * a.U);
      }
    }
    // Widening costs about as much as two products of a row.
    if (kWideWords > 1 && a.T * s.rows > 4) {
      const auto* packed = static_cast<const int8_t*>(a.packed) + 4 * s.stride * G;
      for (int64_t i = 0; !widened && i < all; ++i) {
        store_wide(load_groups(packed + i * 4 * W), s.widened + i * kWideWords * W);
      }
      widened = true;
      run_steps<kKind, kWideWords != 1>(a, s);
    } else {
      run_steps<kKind, false>(a, s);
    }
    for (int64_t r = 0; r < s.rows; ++r) {
      std::memcpy(a.h + (s.begin + r) * a.U, s.h + r * s.stride, sizeof(float) * a.U);
      if (kKind == RecurrentKind::lstm) {
        std::memcpy(a.c + (s.begin + r) * a.U, s.c + r * s.stride, sizeof(float) * a.U);
      }
    }
  }
}

}  // namespace

void int8_recurrent(const Int8RecurrentArgs& a, Range blocks, void* scratch) {
  switch (a.kind) {
    case RecurrentKind::simple:
      return run<RecurrentKind::simple>(a, blocks, scratch);
    case RecurrentKind::gru:
      return run<RecurrentKind::gru>(a, blocks, scratch);
    case RecurrentKind::lstm:
      return run<RecurrentKind::lstm>(a, blocks, scratch);
    case RecurrentKind::gru_before:
      return;  // it has no operator of integers
  }
}

}  // namespace handmill::HM_ISA
