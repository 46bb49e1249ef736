#include "kernels/matmul/dot.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;
constexpr int kColumns = 4;
// Accumulators, one vector of every b and one of a fit the registers.
#if defined(HM_ISA_AVX512)
constexpr int kRows = 4;
#else
constexpr int kRows = 2;
#endif
constexpr int kRowsOfOneColumn = 4;

template <int MR, int NR, class Load>
HM_INLINE void add_products(Vec (&acc)[MR][NR], const float* a, int64_t a_stride, const float* b,
                            int64_t b_stride, Load load) {
  Vec b_n[NR];
#pragma GCC unroll 4
  for (int n = 0; n < NR; ++n) b_n[n] = load(b + n * b_stride);
#pragma GCC unroll 4
  for (int m = 0; m < MR; ++m) {
    const Vec a_m = load(a + m * a_stride);
#pragma GCC unroll 4
    for (int n = 0; n < NR; ++n) acc[m][n] = fma(a_m, b_n[n], acc[m][n]);
  }
}

// MR x NR dot products at once.
template <int MR, int NR>
void dot_tile(const DotProducts& p, int64_t m_begin, int64_t n_begin) {
  Vec acc[MR][NR];
#pragma GCC unroll 4
  for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < NR; ++n) acc[m][n] = Vec::zero();
  }
  const float* a = p.a + m_begin * p.a_stride;
  const float* b = p.b + n_begin * p.b_stride;
  const int64_t a_stride = p.a_stride, b_stride = p.b_stride, rest = p.K % W;
  const float* a_end = a + (p.K - rest);
  while (a != a_end) {
    add_products<MR, NR>(acc, a, a_stride, b, b_stride,
                         [](const float* x) { return Vec::load(x); });
    a += W;
    b += W;
  }
  if (rest > 0) {
    add_products<MR, NR>(acc, a, a_stride, b, b_stride,
                         [rest](const float* x) { return Vec::load_n(x, rest); });
  }
#pragma GCC unroll 4
  for (int m = 0; m < MR; ++m) {
    float* c = p.c + (m_begin + m) * p.c_stride + n_begin;
#pragma GCC unroll 4
    for (int n = 0; n < NR; ++n) {
      float sum = reduce_add(acc[m][n]);
      if (p.scale != nullptr) sum *= p.scale[n_begin + n];
      if (p.bias != nullptr) sum += p.bias[n_begin + n];
      c[n] = p.relu && sum < 0.0f ? 0.0f : sum;
    }
  }
}

template <int MR>
void dot_rows(const DotProducts& p, int64_t m) {
  int64_t n = 0;
  for (; n + kColumns <= p.N; n += kColumns) dot_tile<MR, kColumns>(p, m, n);
  for (; n < p.N; ++n) dot_tile<MR, 1>(p, m, n);
}

}  // namespace

void dot_products(const DotProducts& p) {
  int64_t m = 0;
  if (p.N == 1) {
    for (; m + kRowsOfOneColumn <= p.M; m += kRowsOfOneColumn)
      dot_tile<kRowsOfOneColumn, 1>(p, m, 0);
  }
  for (; m + kRows <= p.M; m += kRows) dot_rows<kRows>(p, m);
  for (; m < p.M; ++m) dot_rows<1>(p, m);
}

}  // namespace handmill::HM_ISA
