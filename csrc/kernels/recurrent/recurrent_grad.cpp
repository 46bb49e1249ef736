// Gradients of recurrent layers: the steps the other way round, and R packed for both directions.
#include <type_traits>

#include "kernels/recurrent/parts.h"
#include "simd/activations.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;
constexpr int MR = kTileRows;

// Vectors of the panel that begins at vector v of `vectors`: 4, then 2, then 1.
HM_INLINE int panel_vectors(int64_t vectors, int64_t v) {
  const int64_t left = vectors - v;
  return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

// What is known of a block while it goes from the last step to the first; rows of padded_units(U),
// of `slopes` of G U.
struct BlockGrad {
  float *dh, *dc;  // dc of gru_before: of what the candidate is made of
  float* slopes;   // of h R (and biases): what R transposed multiplies
  int64_t stride, slope_stride;
};

HM_INLINE Vec load_or_zero(const float* p, int64_t n) {
  return p == nullptr ? Vec::zero() : Vec::load_n(p, n);
}

// Slopes fade from step to step until they leave the range of normal numbers, which processors
// handle a hundred times slower. What is this small adds nothing to a gradient.
HM_INLINE Vec without_faded(Vec slope) {
  return select(abs(slope) < Vec::broadcast(1e-25f), Vec::zero(), slope);
}

// The slopes of one row at a step that counts; dh becomes what goes past the gates.
template <RecurrentKind kKind>
HM_INLINE void row_slopes(const RecurrentGradArgs& a, const BlockGrad& s, int64_t r, int64_t row,
                          int64_t t, [[maybe_unused]] bool first) {
  constexpr int G = gates_of(kKind);
  const int64_t U = a.U, at = row * a.T + t;
  float* slopes = s.slopes + r * s.slope_stride;
  float* dz = a.dz + at * G * U;
  const Vec one = Vec::broadcast(1.0f);
  for (int64_t u = 0; u < U; u += W) {
    const int64_t n = U - u < W ? U - u : W;
    const int64_t here = r * s.stride + u;
    const auto put = [&](int g, Vec slope, Vec of_z) {
      slope.store_n(slopes + g * U + u, n);
      of_z.store_n(dz + g * U + u, n);
    };
    const auto gate = [&](int g) { return Vec::load_n(a.gates + (at * G + g) * U + u, n); };
    Vec dh = Vec::load(s.dh + here);
    if (a.dy != nullptr) dh = dh + Vec::load_n(a.dy + at * U + u, n);
    dh = without_faded(dh);
    if constexpr (kKind == RecurrentKind::lstm) {
      const Vec i = gate(0), f = gate(1), g = gate(2), o = gate(3);
      const int64_t before = a.backwards ? at + 1 : at - 1;
      const Vec c_before = Vec::load_n(first ? a.c0 + row * U + u : a.cells + before * U + u, n);
      const Vec c = tanh(Vec::load_n(a.cells + at * U + u, n));
      const Vec d_o = sigmoid_grad(dh * c, o);
      const Vec dc = without_faded(fma(dh * o, fnma(c, c, one), Vec::load(s.dc + here)));
      const Vec d_i = sigmoid_grad(dc * g, i);
      const Vec d_g = tanh_grad(dc * i, g);
      const Vec d_f = sigmoid_grad(dc * c_before, f);
      (dc * f).store(s.dc + here);
      put(0, d_i, d_i);
      put(1, d_f, d_f);
      put(2, d_g, d_g);
      put(3, d_o, d_o);
      Vec::zero().store(s.dh + here);
    } else if constexpr (kKind == RecurrentKind::gru) {
      const Vec z = gate(0), r_gate = gate(1), g = gate(2);
      const Vec h_before = Vec::load_n(a.before + at * U + u, n);
      const Vec q = Vec::load_n(a.cells + at * U + u, n);
      const Vec d_z = sigmoid_grad(dh * (h_before - g), z);
      const Vec d_g = tanh_grad(dh * (one - z), g);
      const Vec d_r = sigmoid_grad(d_g * q, r_gate);
      const Vec d_q = d_g * r_gate;
      put(0, d_z, d_z);
      put(1, d_r, d_r);
      put(2, d_q, d_g);
      d_q.store_n(a.dq + at * U + u, n);
      (dh * z).store(s.dh + here);
    } else if constexpr (kKind == RecurrentKind::gru_before) {
      const Vec z = gate(0), g = gate(2);
      const Vec d_z = sigmoid_grad(dh * (Vec::load_n(a.before + at * U + u, n) - g), z);
      const Vec d_g = tanh_grad(dh * (one - z), g);
      put(0, d_z, d_z);
      put(2, d_g, d_g);
      (dh * z).store(s.dh + here);
    } else {
      const Vec d_h = tanh_grad(dh, Vec::load_n(a.y + at * U + u, n));
      put(0, d_h, d_h);
      Vec::zero().store(s.dh + here);
    }
  }
}

// Of gru_before, when s.dc is known: the slopes of the reset gate, and what goes to h by it.
HM_INLINE void reset_slopes(const RecurrentGradArgs& a, const BlockGrad& s, int64_t r, int64_t row,
                            int64_t t) {
  const int64_t U = a.U, at = row * a.T + t;
  for (int64_t u = 0; u < U; u += W) {
    const int64_t n = U - u < W ? U - u : W, here = r * s.stride + u;
    Vec slope = Vec::load(s.dc + here);
    if (a.drop != nullptr) slope = slope * Vec::load_n(a.drop + (row * 3 + 2) * U + u, n);
    const Vec reset = Vec::load_n(a.gates + (at * 3 + 1) * U + u, n);
    const Vec d_r = sigmoid_grad(slope * Vec::load_n(a.before + at * U + u, n), reset);
    d_r.store_n(s.slopes + r * s.slope_stride + U + u, n);
    d_r.store_n(a.dz + (at * 3 + 1) * U + u, n);
    fma(slope, reset, Vec::load(s.dh + here)).store(s.dh + here);
  }
}

// The same at a step that does not count: the state went by.
template <RecurrentKind kKind>
void pass_by(const RecurrentGradArgs& a, const BlockGrad& s, int64_t r, int64_t row, int64_t t) {
  constexpr int G = gates_of(kKind);
  const int64_t U = a.U, at = row * a.T + t;
  std::memset(s.slopes + r * s.slope_stride, 0, sizeof(float) * G * U);
  std::memset(a.dz + at * G * U, 0, sizeof(float) * G * U);
  if (kKind == RecurrentKind::gru) std::memset(a.dq + at * U, 0, sizeof(float) * U);
  if (a.dy == nullptr) return;
  for (int64_t u = 0; u < U; u += W) {
    const int64_t n = U - u < W ? U - u : W, here = r * s.stride + u;
    (Vec::load(s.dh + here) + Vec::load_n(a.dy + at * U + u, n)).store(s.dh + here);
  }
}

// acc (+)= slopes R transposed, for MR rows and NV vectors of units, over K of the gates' units.
template <int NV>
HM_INLINE void products(const float* slopes, int64_t stride, const float* b, int64_t K,
                        Vec (&acc)[MR][NV]) {
  for (int64_t k = 0; k < K; ++k, b += NV * W) {
    Vec b_k[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) b_k[v] = Vec::load(b + v * W);
#pragma GCC unroll 4
    for (int m = 0; m < MR; ++m) {
      const Vec slope = Vec::broadcast(slopes[m * stride + k]);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[m][v] = fma(slope, b_k[v], acc[m][v]);
    }
  }
}

// dh += slopes R transposed, of the first `gates` of G gates.
template <int NV>
void add_products(const RecurrentGradArgs& a, const BlockGrad& s, RowBlock block, int64_t r,
                  int64_t u, int G, int gates) {
  const int64_t U = a.U;
  const float* slopes = s.slopes + r * s.slope_stride;
  const float* b = a.packed + u * G * U;
  float* dh = s.dh + r * s.stride + u;
  Vec acc[MR][NV];
  if (a.drop == nullptr) {
    for (int m = 0; m < MR; ++m) {
      for (int v = 0; v < NV; ++v) acc[m][v] = Vec::load(dh + m * s.stride + v * W);
    }
    products<NV>(slopes, s.slope_stride, b, gates * U, acc);
    for (int m = 0; m < MR; ++m) {
      for (int v = 0; v < NV; ++v) acc[m][v].store(dh + m * s.stride + v * W);
    }
    return;
  }
  for (int g = 0; g < gates; ++g) {
    for (int m = 0; m < MR; ++m) {
      for (int v = 0; v < NV; ++v) acc[m][v] = Vec::zero();
    }
    products<NV>(slopes + g * U, s.slope_stride, b + g * U * NV * W, U, acc);
    for (int m = 0; m < MR; ++m) {
      const float* factors = a.drop + (block.row(r + m) * G + g) * U;
      for (int v = 0; v < NV; ++v) {
        const int64_t at = u + v * W, n = U - at < W ? U - at : W;
        float* place = dh + m * s.stride + v * W;
        fma(acc[m][v], Vec::load_n(factors + at, n), Vec::load(place)).store(place);
      }
    }
  }
}

// Of gru_before: s.dc = the slopes of the candidate times R transposed.
template <int NV>
void candidate_products(const RecurrentGradArgs& a, const BlockGrad& s, int64_t r, int64_t u) {
  const int64_t U = a.U;
  Vec acc[MR][NV] = {};
  products<NV>(s.slopes + r * s.slope_stride + 2 * U, s.slope_stride,
               a.packed + u * 3 * U + 2 * U * NV * W, U, acc);
  for (int m = 0; m < MR; ++m) {
    for (int v = 0; v < NV; ++v) acc[m][v].store(s.dc + (r + m) * s.stride + u + v * W);
  }
}

template <RecurrentKind kKind>
void run_block(const RecurrentGradArgs& a, RowBlock block, float* scratch) {
  constexpr int G = gates_of(kKind);
  const int64_t U = a.U, T = a.T;
  BlockGrad s{};
  s.stride = padded_units(U);
  const int64_t vectors = s.stride / W;
  s.slope_stride = G * U;
  s.dh = scratch;
  s.dc = s.dh + block.padded() * s.stride;
  s.slopes = s.dc + block.padded() * s.stride;
  std::memset(s.slopes, 0, sizeof(float) * block.padded() * s.slope_stride);
  for (int64_t r = 0; r < block.padded(); ++r) {
    const int64_t row = block.row(r) * U;
    for (int64_t u = 0; u < U; u += W) {
      const int64_t n = U - u < W ? U - u : W, here = r * s.stride + u;
      load_or_zero(a.dh == nullptr ? nullptr : a.dh + row + u, n).store(s.dh + here);
      load_or_zero(a.dc == nullptr ? nullptr : a.dc + row + u, n).store(s.dc + here);
    }
  }
  for (int64_t step = T - 1; step >= 0; --step) {
    const int64_t t = a.backwards ? T - 1 - step : step;
    bool any[kMostTiles] = {};
    for (int64_t r = 0; r < block.rows; ++r) {
      const int64_t row = block.begin + r;
      if (counts(a.mask, T, row, t)) {
        row_slopes<kKind>(a, s, r, row, t, step == 0);
        any[r / MR] = true;
      } else {
        pass_by<kKind>(a, s, r, row, t);
      }
    }
    const auto each = [&](auto&& part) {
      for (int64_t v = 0; v < vectors; v += panel_vectors(vectors, v)) {
        for (int64_t r = 0; r < block.rows; r += MR) {
          if (!any[r / MR]) continue;
          switch (panel_vectors(vectors, v)) {
            case 4:
              part(std::integral_constant<int, 4>{}, r, v * W);
              break;
            case 2:
              part(std::integral_constant<int, 2>{}, r, v * W);
              break;
            default:
              part(std::integral_constant<int, 1>{}, r, v * W);
          }
        }
      }
    };
    constexpr bool kBefore = kKind == RecurrentKind::gru_before;
    if constexpr (kBefore) {
      each([&](auto vs, int64_t r, int64_t u) { candidate_products<vs()>(a, s, r, u); });
      for (int64_t r = 0; r < block.rows; ++r) {
        const int64_t row = block.begin + r;
        if (counts(a.mask, T, row, t)) reset_slopes(a, s, r, row, t);
      }
    }
    each([&](auto vs, int64_t r, int64_t u) {
      add_products<vs()>(a, s, block, r, u, G, kBefore ? 2 : G);
    });
  }
  for (int64_t r = 0; r < block.rows; ++r) {
    std::memcpy(a.dh0 + (block.begin + r) * U, s.dh + r * s.stride, sizeof(float) * U);
    if (kKind == RecurrentKind::lstm) {
      std::memcpy(a.dc0 + (block.begin + r) * U, s.dc + r * s.stride, sizeof(float) * U);
    }
  }
}

template <RecurrentKind kKind>
void run(const RecurrentGradArgs& a, Range blocks, float* scratch) {
  for (int64_t i = blocks.begin; i < blocks.end; ++i) {
    const int64_t begin = i * a.rows_per_block;
    const int64_t rows = a.B - begin < a.rows_per_block ? a.B - begin : a.rows_per_block;
    run_block<kKind>(a, {begin, rows}, scratch);
  }
}

}  // namespace

void recurrent_grad(const RecurrentGradArgs& a, Range blocks, void* scratch) {
  float* memory = static_cast<float*>(scratch);
  switch (a.kind) {
    case RecurrentKind::simple:
      return run<RecurrentKind::simple>(a, blocks, memory);
    case RecurrentKind::gru:
      return run<RecurrentKind::gru>(a, blocks, memory);
    case RecurrentKind::gru_before:
      return run<RecurrentKind::gru_before>(a, blocks, memory);
    case RecurrentKind::lstm:
      return run<RecurrentKind::lstm>(a, blocks, memory);
  }
}

// A block is a vector of units; places behind the last unit hold zeros.
void recurrent_pack(const RecurrentPackArgs& a, Range blocks, void*) {
  const int64_t U = a.U, G = a.G, vectors = padded_units(U) / W;
  for (int64_t v = blocks.begin; v < blocks.end; ++v) {
    const int64_t n = U - v * W < W ? U - v * W : W;
    if (!a.transposed) {
      float* to = a.packed + v * W * U * G;
      for (int64_t k = 0; k < U; ++k) {
        for (int64_t g = 0; g < G; ++g, to += W) {
          Vec::load_n(a.r + (k * G + g) * U + v * W, n).store(to);
        }
      }
      continue;
    }
    int64_t first = 0;  // of the panel
    while (first + panel_vectors(vectors, first) <= v) first += panel_vectors(vectors, first);
    const int64_t width = panel_vectors(vectors, first) * W;
    float* to = a.packed + first * W * U * G + (v - first) * W;
    for (int64_t k = 0; k < G * U; ++k, to += width) {
      for (int64_t lane = 0; lane < W; ++lane) {
        to[lane] = lane < n ? a.r[(v * W + lane) * G * U + k] : 0.0f;
      }
    }
  }
}

}  // namespace handmill::HM_ISA
