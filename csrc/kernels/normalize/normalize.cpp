// Layer and root mean square normalization of rows, one pass over memory each way.
//
// A row is read again and again while it lies in L1: its mean, then the squares of the distances
// from it, so that nothing cancels however far a row lies from zero, then what is written. Several
// rows at once hide the latency of sums, of which each row has one order whatever is beside it.
#include "kernels/lanes.h"
#include "kernels/normalize/args.h"

namespace handmill::HM_ISA {
namespace {

constexpr int kGroup = 4;  // rows at once; no more than the lanes of the narrowest level

// Sums of long rows are cut into chunks of this many vectors, whose sums are added in order.
constexpr int64_t kChunk = 32;

// sum[r] = sum over n of term(r, n, lanes), for kRows rows and kSums sums of each.
template <int kRows, int kSums, class F>
HM_INLINE void sum_rows(int64_t N, float (*sum)[kRows], F add_terms) {
  Vec total[kSums][kRows];
  for (int s = 0; s < kSums; ++s) {
    for (int r = 0; r < kRows; ++r) total[s][r] = Vec::zero();
  }
  for (int64_t begin = 0; begin < N; begin += kChunk * Vec::width) {
    const int64_t end = begin + kChunk * Vec::width;
    Vec part[kSums][kRows];
    for (int s = 0; s < kSums; ++s) {
      for (int r = 0; r < kRows; ++r) part[s][r] = Vec::zero();
    }
    for_each_vector(begin, end < N ? end : N,
                    [&](int64_t n, auto lanes) { add_terms(n, lanes, part); });
    for (int s = 0; s < kSums; ++s) {
      for (int r = 0; r < kRows; ++r) total[s][r] = total[s][r] + part[s][r];
    }
  }
  for (int s = 0; s < kSums; ++s) {
    for (int r = 0; r < kRows; ++r) sum[s][r] = reduce_add(total[s][r]);
  }
}

template <int kRows>
void normalize_group(const NormalizeRowsArgs& a, int64_t m) {
  const int64_t N = a.N;
  const float* const x = a.x + m * N;
  float* const y = a.y + m * N;
  const float count = static_cast<float>(N);
  float sum[1][kRows];
  Vec mean[kRows], inverse[kRows];
  for (int r = 0; r < kRows; ++r) mean[r] = Vec::zero();
  if (a.mean != nullptr) {
    sum_rows<kRows, 1>(N, sum, [&](int64_t n, auto lanes, Vec(*part)[kRows]) {
      for (int r = 0; r < kRows; ++r) part[0][r] = part[0][r] + lanes.load(x + r * N + n);
    });
    for (int r = 0; r < kRows; ++r) {
      a.mean[m + r] = sum[0][r] / count;
      mean[r] = Vec::broadcast(a.mean[m + r]);
    }
  }
  sum_rows<kRows, 1>(N, sum, [&](int64_t n, auto lanes, Vec(*part)[kRows]) {
    for (int r = 0; r < kRows; ++r) {
      const Vec distance = lanes.keep(lanes.load(x + r * N + n) - mean[r], 0.0f);
      part[0][r] = fma(distance, distance, part[0][r]);
    }
  });
  const Vec spread = Vec::load_n(sum[0], kRows) / Vec::broadcast(count);
  (Vec::broadcast(1.0f) / sqrt(spread + Vec::broadcast(a.epsilon))).store_n(a.inverse + m, kRows);
  for (int r = 0; r < kRows; ++r) inverse[r] = Vec::broadcast(a.inverse[m + r]);
  for_each_vector(0, N, [&](int64_t n, auto lanes) {
    const Vec scale = lanes.load(a.scale + n);
    const Vec offset = a.offset != nullptr ? lanes.load(a.offset + n) : Vec::zero();
    for (int r = 0; r < kRows; ++r) {
      const Vec normal = (lanes.load(x + r * N + n) - mean[r]) * inverse[r];
      lanes.store(a.offset != nullptr ? fma(normal, scale, offset) : normal * scale, y + r * N + n);
    }
  });
}

// first: the sums of the block begin with these rows.
template <int kRows>
void grad_group(const NormalizeRowsGradArgs& a, int64_t m, bool first, float* scale_sums,
                float* offset_sums) {
  const int64_t N = a.N;
  const float *const dy = a.dy + m * N, *const x = a.x + m * N;
  const float* const residual = a.residual != nullptr ? a.residual + m * N : nullptr;
  float* const dx = a.dx + m * N;
  const Vec count = Vec::broadcast(static_cast<float>(N));
  const bool centered = a.mean != nullptr;
  Vec mean[kRows], inverse[kRows];
  for (int r = 0; r < kRows; ++r) {
    mean[r] = Vec::broadcast(centered ? a.mean[m + r] : 0.0f);
    inverse[r] = Vec::broadcast(a.inverse[m + r]);
  }
  // Means over the row of g = dy scale, and of g times what was normalized.
  float sum[2][kRows];
  sum_rows<kRows, 2>(N, sum, [&](int64_t n, auto lanes, Vec(*part)[kRows]) {
    const Vec scale = lanes.load(a.scale + n);
    for (int r = 0; r < kRows; ++r) {
      const Vec g = lanes.keep(lanes.load(dy + r * N + n) * scale, 0.0f);
      const Vec normal = (lanes.load(x + r * N + n) - mean[r]) * inverse[r];
      part[0][r] = part[0][r] + g;
      part[1][r] = fma(g, lanes.keep(normal, 0.0f), part[1][r]);
    }
  });
  Vec level[kRows], slope[kRows];
  for (int r = 0; r < kRows; ++r) {
    level[r] = centered ? Vec::broadcast(sum[0][r]) / count : Vec::zero();
    slope[r] = Vec::broadcast(sum[1][r]) / count;
  }
  for_each_vector(0, N, [&](int64_t n, auto lanes) {
    const Vec scale = lanes.load(a.scale + n);
    Vec scale_sum = first ? Vec::zero() : lanes.load(scale_sums + n);
    Vec offset_sum = first || !centered ? Vec::zero() : lanes.load(offset_sums + n);
    for (int r = 0; r < kRows; ++r) {
      const Vec dy_r = lanes.load(dy + r * N + n);
      const Vec normal = (lanes.load(x + r * N + n) - mean[r]) * inverse[r];
      scale_sum = fma(dy_r, normal, scale_sum);
      offset_sum = offset_sum + dy_r;
      const Vec through = fnma(normal, slope[r], fma(dy_r, scale, -level[r]));
      lanes.store(residual != nullptr ? fma(through, inverse[r], lanes.load(residual + r * N + n))
                                      : through * inverse[r],
                  dx + r * N + n);
    }
    lanes.store(scale_sum, scale_sums + n);
    if (centered) lanes.store(offset_sum, offset_sums + n);
  });
}

}  // namespace

void normalize_rows(const NormalizeRowsArgs& a, Range blocks, void*) {
  const Range rows = items_of(blocks, a.rows_per_block, a.M);
  int64_t m = rows.begin;
  for (; m + kGroup <= rows.end; m += kGroup) normalize_group<kGroup>(a, m);
  for (; m < rows.end; ++m) normalize_group<1>(a, m);
}

void normalize_rows_grad(const NormalizeRowsGradArgs& a, Range blocks, void*) {
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const Range rows = items_of({block, block + 1}, a.rows_per_block, a.M);
    float* const scale_sums = a.scale_sums + block * a.N;
    float* const offset_sums = a.mean != nullptr ? a.offset_sums + block * a.N : nullptr;
    int64_t m = rows.begin;
    for (; m + kGroup <= rows.end; m += kGroup) {
      grad_group<kGroup>(a, m, m == rows.begin, scale_sums, offset_sums);
    }
    for (; m < rows.end; ++m) grad_group<1>(a, m, m == rows.begin, scale_sums, offset_sums);
  }
}

}  // namespace handmill::HM_ISA
