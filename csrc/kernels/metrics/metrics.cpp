// What metrics measure each batch, and the running means that they keep.
#include "kernels/labels.h"
#include "kernels/metrics/args.h"
#include "kernels/reduce/row_argmax.h"

namespace handmill::HM_ISA {

// y[m] = (argmax_n predictions[m, n] == labels[m])
void sparse_match(const SparseMatchArgs& a, Range blocks, void*) {
  const Range rows = items_of(blocks, a.rows_per_block, a.M);
  for (int64_t m = rows.begin; m < rows.end; ++m) {
    const int64_t best = row_arg_extreme(a.predictions + m * a.N, a.N, false);
    a.y[m] = best == label_at(a.labels, a.label_type, m) ? 1.0f : 0.0f;
  }
}

// y[m] = (argmax_n predictions[m, n] == argmax_n targets[m, n])
void dense_match(const DenseMatchArgs& a, Range blocks, void*) {
  const Range rows = items_of(blocks, a.rows_per_block, a.M);
  for (int64_t m = rows.begin; m < rows.end; ++m) {
    const int64_t best = row_arg_extreme(a.predictions + m * a.N, a.N, false);
    a.y[m] = best == row_arg_extreme(a.targets + m * a.N, a.N, false) ? 1.0f : 0.0f;
  }
}

// total += sum of values * weights;  count += sum of weights, both over all of (M, N) and in
// float64. One block: every fourth product belongs to the same partial sum, whatever the level.
void accumulate_mean(const AccumulateMeanArgs& a, Range, void*) {
  constexpr int kLanes = 4;
  double total[kLanes] = {}, count[kLanes] = {};
  for (int64_t m = 0; m < a.M; ++m) {
    const float* values_m = a.values + m * a.N;
    const float* weights_m = a.weights + m * a.weight_row;
    for (int64_t begin = 0; begin < a.N; begin += kLanes) {
      const int64_t lanes = a.N - begin < kLanes ? a.N - begin : kLanes;
      for (int64_t j = 0; j < lanes; ++j) {
        const double weight = weights_m[(begin + j) * a.weight_col];
        total[j] += static_cast<double>(values_m[begin + j]) * weight;
        count[j] += weight;
      }
    }
  }
  *a.total_out = *a.total + ((total[0] + total[2]) + (total[1] + total[3]));
  *a.count_out = *a.count + ((count[0] + count[2]) + (count[1] + count[3]));
}

}  // namespace handmill::HM_ISA
