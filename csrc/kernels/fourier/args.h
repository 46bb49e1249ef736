// Arguments of the Fourier transforms of real numbers. Plain aggregates.
#pragma once

#include <cstdint>

namespace handmill {

// Windows of N samples, of rows that have `windows` of them each.
struct RfftArgs {
  const float* x;        // (M, T)
  const float* factors;  // (N), of the samples of a window
  const float* real_in;  // (M * windows, N / 2 + 1), of the adjoint
  const float* imag_in;
  float* real;  // (M * windows, N / 2 + 1)
  float* imag;
  float* y;            // (M * windows, N), of the adjoint
  const float* turns;  // cos and -sin of 2 pi k / N for k < N, one after the other
  int64_t M, T, N;     // N a power of two, at least 8
  int64_t windows, stride;
  int64_t per_block;  // windows of a block
};

}  // namespace handmill
