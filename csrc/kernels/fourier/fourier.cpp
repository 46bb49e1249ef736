// Fourier transforms of windows of real numbers, and their adjoint.
//
// One window lies in one lane of a vector: all windows of a group take the same steps, and what a
// window gives does not depend on its neighbours. N real numbers are taken as N / 2 complex ones
// (Stockham's transform by steps of four, between two buffers), and what belongs to even and to odd
// samples is told apart at the end.
#include "kernels/fourier/args.h"
#include "kernels/lanes.h"

namespace handmill::HM_ISA {
namespace {

constexpr int64_t kLanes = Vec::width;

struct Complex {
  Vec re, im;
};

// Real and imaginary parts of M numbers, a vector each.
struct Numbers {
  float *re, *im;
  HM_INLINE Complex load(int64_t m) const {
    return {Vec::load(re + m * kLanes), Vec::load(im + m * kLanes)};
  }
  HM_INLINE void store(int64_t m, Complex z) const {
    z.re.store(re + m * kLanes);
    z.im.store(im + m * kLanes);
  }
};

HM_INLINE Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
HM_INLINE Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
HM_INLINE Complex times_i(Complex a) { return {-a.im, a.re}; }
HM_INLINE Complex turned(Complex a, const float* turn) {
  const Vec c = Vec::broadcast(turn[0]), s = Vec::broadcast(turn[1]);
  return {fma(a.re, c, -(a.im * s)), fma(a.re, s, a.im * c)};
}

HM_INLINE void exchange(Numbers& a, Numbers& b) {
  const Numbers held = a;
  a = b;
  b = held;
}

// The transform of M numbers in `from`; returns where it lies, `from` or `to`.
Numbers transform(Numbers from, Numbers to, int64_t M, const float* turns) {
  int64_t n = M, s = 1;  // numbers of a transform, transforms beside each other
  for (; n >= 4; n /= 4, s *= 4) {
    const int64_t quarter = n / 4;
    for (int64_t p = 0; p < quarter; ++p) {
      // turns[] is of 2 M, so one step of it is half a step of M.
      const float* w1 = turns + 2 * (2 * p * s);
      const float* w2 = turns + 2 * (4 * p * s);
      const float* w3 = turns + 2 * (6 * p * s);
      for (int64_t q = 0; q < s; ++q) {
        const Complex a = from.load(q + s * p), b = from.load(q + s * (p + quarter)),
                      c = from.load(q + s * (p + 2 * quarter)),
                      d = from.load(q + s * (p + 3 * quarter));
        const Complex ac = a + c, a_c = a - c, bd = b + d, b_d = times_i(b - d);
        to.store(q + s * (4 * p), ac + bd);
        to.store(q + s * (4 * p + 1), turned(a_c - b_d, w1));
        to.store(q + s * (4 * p + 2), turned(ac - bd, w2));
        to.store(q + s * (4 * p + 3), turned(a_c + b_d, w3));
      }
    }
    exchange(from, to);
  }
  if (n == 2) {
    for (int64_t q = 0; q < s; ++q) {
      const Complex a = from.load(q), b = from.load(q + s);
      to.store(q, a + b);
      to.store(q + s, a - b);
    }
    exchange(from, to);
  }
  return from;
}

// Windows [first, end) of the block, as many as there are lanes.
HM_INLINE int64_t lanes_from(int64_t first, int64_t end) {
  return end - first < kLanes ? end - first : kLanes;
}

}  // namespace

// (real + i imag)[f, k] = sum of factors[n] x[f, n] exp(-2 pi i k n / N), k <= N / 2.
void rfft(const RfftArgs& a, Range blocks, void* scratch) {
  const int64_t M = a.N / 2, K = M + 1;
  float* memory = static_cast<float*>(scratch);
  const Numbers one{memory, memory + M * kLanes};
  const Numbers two{memory + 2 * M * kLanes, memory + 3 * M * kLanes};
  const Range range = items_of(blocks, a.per_block, a.M * a.windows);
  for (int64_t first = range.begin; first < range.end; first += kLanes) {
    const int64_t count = lanes_from(first, range.end);
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const int64_t f = first + (lane < count ? lane : 0);
      const float* x = a.x + f / a.windows * a.T + f % a.windows * a.stride;
      for (int64_t m = 0; m < M; ++m) {
        one.re[m * kLanes + lane] = x[2 * m] * a.factors[2 * m];
        one.im[m * kLanes + lane] = x[2 * m + 1] * a.factors[2 * m + 1];
      }
    }
    const Numbers z = transform(one, two, M, a.turns);
    const Numbers y = z.re == one.re ? two : one;
    // X[k] = (z[k] + z*[M - k]) / 2 - i turn[k] (z[k] - z*[M - k]) / 2. X[M] has no room in y: its
    // real part lies where the imaginary part of X[0] is, both of which are 0.
    const Vec half = Vec::broadcast(0.5f);
    const Complex z0 = z.load(0);
    y.store(0, {z0.re + z0.im, z0.re - z0.im});
    for (int64_t k = 1; k < M; ++k) {
      const Complex p = z.load(k), q = z.load(M - k);
      const Complex even{(p.re + q.re) * half, (p.im - q.im) * half};
      const Complex odd{(p.im + q.im) * half, (q.re - p.re) * half};
      y.store(k, even + turned(odd, a.turns + 2 * k));
    }
    for (int64_t lane = 0; lane < count; ++lane) {
      float* real = a.real + (first + lane) * K;
      float* imag = a.imag + (first + lane) * K;
      for (int64_t k = 0; k < M; ++k) {
        real[k] = y.re[k * kLanes + lane];
        imag[k] = y.im[k * kLanes + lane];
      }
      real[M] = imag[0];
      imag[0] = imag[M] = 0;
    }
  }
}

// y[f, n] = sum over k <= N / 2 of the real part of (real + i imag)[f, k] exp(2 pi i k n / N).
void rfft_adjoint(const RfftArgs& a, Range blocks, void* scratch) {
  const int64_t M = a.N / 2, K = M + 1;
  float* memory = static_cast<float*>(scratch);
  const Numbers one{memory, memory + M * kLanes};
  const Numbers two{memory + 2 * M * kLanes, memory + 3 * M * kLanes};
  const Range range = items_of(blocks, a.per_block, a.M * a.windows);
  for (int64_t first = range.begin; first < range.end; first += kLanes) {
    const int64_t count = lanes_from(first, range.end);
    // Half of each number, for its conjugate at N - k is one of the same sum; X[0] and X[M] are
    // their own, and only their real parts count. X[M] lies beside X[0], as above.
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const int64_t f = first + (lane < count ? lane : 0);
      const float *real = a.real_in + f * K, *imag = a.imag_in + f * K;
      for (int64_t k = 0; k < M; ++k) {
        one.re[k * kLanes + lane] = 0.5f * real[k];
        one.im[k * kLanes + lane] = 0.5f * imag[k];
      }
      one.re[lane] = real[0];
      one.im[lane] = real[M];
    }
    // z[k] = (h[k] + h*[M - k]) + i turn*[k] (h[k] - h*[M - k]), real and imaginary part exchanged:
    // so the transform below goes the other way round.
    const Complex ends = one.load(0);
    const Numbers changed{two.im, two.re};
    changed.store(0, {ends.re + ends.im, ends.re - ends.im});
    for (int64_t k = 1; k < M; ++k) {
      const Complex p = one.load(k), q = one.load(M - k);
      const Complex sum{p.re + q.re, p.im - q.im}, gap{p.re - q.re, p.im + q.im};
      const float back[2] = {a.turns[2 * k], -a.turns[2 * k + 1]};
      changed.store(k, sum + times_i(turned(gap, back)));
    }
    const Numbers z = transform(two, one, M, a.turns);
    for (int64_t lane = 0; lane < count; ++lane) {
      float* y = a.y + (first + lane) * a.N;
      for (int64_t m = 0; m < M; ++m) {
        y[2 * m] = z.im[m * kLanes + lane];
        y[2 * m + 1] = z.re[m * kLanes + lane];
      }
    }
  }
}

}  // namespace handmill::HM_ISA
