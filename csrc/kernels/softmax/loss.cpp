// Softmax and cross entropy in one pass over the logits (M, N), and what the labels must satisfy.
//
//   loss[m] = -sum_n t[m, n] log p[m, n],   p = softmax(logits),   d loss / d logits = p sum_n t -
//   t
//
// A sparse label l stands for t[n] = (n == l). The loss is taken from the logits, not from p, so it
// is finite where p rounds to 0.
#include "kernels/labels.h"
#include "kernels/softmax/args.h"
#include "kernels/softmax/row.h"

namespace handmill::HM_ISA {
namespace {

struct LabelledRow {
  int64_t label;  // -1: not one of the classes
  float dloss;
};

}  // namespace

// A label outside 0 .. N - 1 gives a loss of NaN.
void sparse_softmax_cross_entropy(const SparseCrossEntropyArgs& a, Range blocks, void*) {
  const Range rows = items_of(blocks, a.rows_per_block, a.M);
  // Logarithms are taken of many rows at once: for 10 classes one a row would be a third of the
  // work.
  constexpr int64_t kGroup = 64;
  RowExp row[kGroup];
  float sum[kGroup], logit[kGroup];  // logit of the label, less the largest
  for (int64_t begin = rows.begin; begin < rows.end; begin += kGroup) {
    const int64_t count = rows.end - begin < kGroup ? rows.end - begin : kGroup;
    const float* x = a.logits + begin * a.N;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t label = label_at(a.labels, a.label_type, begin + i);
      const bool valid = label >= 0 && label < a.N;
      logit[i] = valid ? x[i * a.N + label] : __builtin_nanf("");
    }
    softmax_rows(x, a.probabilities + begin * a.N, count, a.N, row);
    for (int64_t i = 0; i < count; ++i) {
      sum[i] = row[i].sum;
      logit[i] -= row[i].max;
    }
    for_each_vector(0, count, [&](int64_t i, auto lanes) {
      lanes.store(log(lanes.load(sum + i)) - lanes.load(logit + i), a.loss + begin + i);
    });
  }
}

// dlogits[m, n] = dloss[m] (p[m, n] - (n == label)). dlogits may be p.
void sparse_softmax_cross_entropy_grad(const SparseCrossEntropyGradArgs& a, Range blocks, void*) {
  const Range rows = items_of(blocks, a.rows_per_block, a.M);
  const auto of_row = [&a](int64_t m) {
    const int64_t label = label_at(a.labels, a.label_type, m);
    const bool valid = label >= 0 && label < a.N;
    return LabelledRow{valid ? label : -1, valid ? a.dloss[m] : __builtin_nanf("")};
  };
  int64_t m = rows.begin;
  if (a.N <= Vec::width) {
    const SomeLanes lanes{a.N};
    const VecI n = VecI::iota();
    for (; m + kShortRows <= rows.end; m += kShortRows) {
      Vec dx[kShortRows];
      for (int i = 0; i < kShortRows; ++i) {
        const LabelledRow row = of_row(m + i);
        const Vec p = lanes.load(a.probabilities + (m + i) * a.N);
        const Mask is_label = n == VecI::broadcast(static_cast<int32_t>(row.label));
        dx[i] = select(is_label, p - Vec::broadcast(1.0f), p) * Vec::broadcast(row.dloss);
      }
      for (int i = 0; i < kShortRows; ++i) lanes.store(dx[i], a.dlogits + (m + i) * a.N);
    }
  }
  for (; m < rows.end; ++m) {
    const float* p_m = a.probabilities + m * a.N;
    float* dx_m = a.dlogits + m * a.N;
    const LabelledRow row = of_row(m);
    const float at_label = row.label >= 0 ? (p_m[row.label] - 1.0f) * row.dloss : 0.0f;
    const Vec factor = Vec::broadcast(row.dloss);
    for_each_vector(0, a.N, [&](int64_t n, auto lanes) {
      lanes.store(lanes.load(p_m + n) * factor, dx_m + n);
    });
    if (row.label >= 0) dx_m[row.label] = at_label;
  }
}

void softmax_cross_entropy(const CrossEntropyArgs& a, Range blocks, void*) {
  const Range rows = items_of(blocks, a.rows_per_block, a.M);
  for (int64_t m = rows.begin; m < rows.end; ++m) {
    const float *x_m = a.logits + m * a.N, *t_m = a.targets + m * a.N;
    float* p_m = a.probabilities + m * a.N;
    const Vec max = Vec::broadcast(row_max(x_m, a.N));
    const float sum =
        sum_row(a.N, [&](int64_t n, auto lanes) { return exp(lanes.load(x_m + n) - max); });
    const Vec log_sum = log(Vec::broadcast(sum)), scale = Vec::broadcast(1.0f / sum);
    // exp is taken again rather than kept, because p may lie over the logits.
    a.loss[m] = sum_row(a.N, [&](int64_t n, auto lanes) {
      const Vec shifted = lanes.load(x_m + n) - max;
      lanes.store(exp(shifted) * scale, p_m + n);
      return lanes.load(t_m + n) * (log_sum - shifted);
    });
  }
}

// dlogits[m, n] = dloss[m] (p[m, n] sum_n t[m, n] - t[m, n]). dlogits may be p.
void softmax_cross_entropy_grad(const CrossEntropyGradArgs& a, Range blocks, void*) {
  const Range rows = items_of(blocks, a.rows_per_block, a.M);
  for (int64_t m = rows.begin; m < rows.end; ++m) {
    const float *p_m = a.probabilities + m * a.N, *t_m = a.targets + m * a.N;
    float* dx_m = a.dlogits + m * a.N;
    const Vec dloss = Vec::broadcast(a.dloss[m]);
    const Vec mass =
        Vec::broadcast(sum_row(a.N, [&](int64_t n, auto lanes) { return lanes.load(t_m + n); }));
    for_each_vector(0, a.N, [&](int64_t n, auto lanes) {
      const Vec t = lanes.load(t_m + n);
      lanes.store(dloss * (lanes.load(p_m + n) * mass - t), dx_m + n);
    });
  }
}

// Finds the first label that is not an integer of 0 .. num_classes - 1. One block.
void check_labels(const CheckLabelsArgs& a, Range, void*) {
  GuardResult found{-1, 0.0};
  for (int64_t i = 0; i < a.size; ++i) {
    const int64_t label = label_at(a.labels, a.label_type, i);
    if (label < 0 || label >= a.num_classes) {
      const bool is_float = a.label_type == Dtype::float32;
      found.index = i;
      found.value = is_float ? static_cast<double>(static_cast<const float*>(a.labels)[i])
                             : static_cast<double>(label);
      break;
    }
  }
  *a.found = found;
}

}  // namespace handmill::HM_ISA
