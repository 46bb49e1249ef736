// Softmax over the rows of (M, N) and its gradient. Outputs may lie over inputs.
#include "kernels/softmax/args.h"
#include "kernels/softmax/row.h"

namespace handmill::HM_ISA {

// y[m, n] = exp(x[m, n] - max_n x) / sum_n
void softmax(const SoftmaxArgs& a, Range blocks, void*) {
  const Range rows = items_of(blocks, a.rows_per_block, a.M);
  constexpr int64_t kGroup = 64;
  RowExp row[kGroup];
  for (int64_t m = rows.begin; m < rows.end; m += kGroup) {
    const int64_t count = rows.end - m < kGroup ? rows.end - m : kGroup;
    softmax_rows(a.x + m * a.N, a.y + m * a.N, count, a.N, row);
  }
}

// y[m, n] = x[m, n] - max_n x - log sum_n exp(x - max)
void log_softmax(const SoftmaxArgs& a, Range blocks, void*) {
  const Range rows = items_of(blocks, a.rows_per_block, a.M);
  for (int64_t m = rows.begin; m < rows.end; ++m) {
    const float* x_m = a.x + m * a.N;
    float* y_m = a.y + m * a.N;
    const Vec max = Vec::broadcast(row_max(x_m, a.N));
    const float sum =
        sum_row(a.N, [&](int64_t n, auto lanes) { return exp(lanes.load(x_m + n) - max); });
    const Vec log_sum = log(Vec::broadcast(sum));
    for_each_vector(0, a.N, [&](int64_t n, auto lanes) {
      lanes.store(lanes.load(x_m + n) - max - log_sum, y_m + n);
    });
  }
}

// dx = y (dy - sum_n dy y)
void softmax_grad(const SoftmaxGradArgs& a, Range blocks, void*) {
  const Range rows = items_of(blocks, a.rows_per_block, a.M);
  for (int64_t m = rows.begin; m < rows.end; ++m) {
    const float *dy_m = a.dy + m * a.N, *y_m = a.y + m * a.N;
    float* dx_m = a.dx + m * a.N;
    const Vec dot = Vec::broadcast(sum_row(
        a.N, [&](int64_t n, auto lanes) { return lanes.load(dy_m + n) * lanes.load(y_m + n); }));
    for_each_vector(0, a.N, [&](int64_t n, auto lanes) {
      lanes.store(lanes.load(y_m + n) * (lanes.load(dy_m + n) - dot), dx_m + n);
    });
  }
}

// dx = dy - exp(y) sum_n dy
void log_softmax_grad(const SoftmaxGradArgs& a, Range blocks, void*) {
  const Range rows = items_of(blocks, a.rows_per_block, a.M);
  for (int64_t m = rows.begin; m < rows.end; ++m) {
    const float *dy_m = a.dy + m * a.N, *y_m = a.y + m * a.N;
    float* dx_m = a.dx + m * a.N;
    const Vec sum =
        Vec::broadcast(sum_row(a.N, [&](int64_t n, auto lanes) { return lanes.load(dy_m + n); }));
    for_each_vector(0, a.N, [&](int64_t n, auto lanes) {
      lanes.store(fnma(exp(lanes.load(y_m + n)), sum, lanes.load(dy_m + n)), dx_m + n);
    });
  }
}

}  // namespace handmill::HM_ISA
