// The steps after the sums of a bfloat16 matmul, in float32, and the rounding of the result.
#include "kernels/matmul/bf16_parts.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;

HM_INLINE Vec load_as_float(const void* x, Dtype dtype, int64_t i, int64_t lanes) {
  if (dtype == Dtype::bfloat16) {
    const uint16_t* halves = static_cast<const uint16_t*>(x) + i;
    return lanes == W ? load_bf16(halves) : load_bf16_n(halves, lanes);
  }
  const float* floats = static_cast<const float*>(x) + i;
  return lanes == W ? Vec::load(floats) : Vec::load_n(floats, lanes);
}

// sums[m, n] = f(sums[m, n], u[m * u_row + n])
template <class F>
void combine(float* sums, int64_t sums_row, int64_t rows, int64_t columns, const void* u,
             Dtype dtype, int64_t u_row, F f) {
  for (int64_t m = 0; m < rows; ++m) {
    float* s = sums + m * sums_row;
    for (int64_t n = 0; n < columns; n += W) {
      const int64_t lanes = columns - n < W ? columns - n : W;
      const Vec value = load_as_float(u, dtype, m * u_row + n, lanes);
      if (lanes == W) {
        f(Vec::load(s + n), value).store(s + n);
      } else {
        f(Vec::load_n(s + n, lanes), value).store_n(s + n, lanes);
      }
    }
  }
}

}  // namespace

void finish_bf16(const Bf16Epilogue& e, int64_t outer, int64_t inner, const int64_t (&c_batch)[2],
                 int64_t N, int64_t m, int64_t n, float* sums, int64_t sums_row, int64_t rows,
                 int64_t columns, void* c, Dtype c_dtype, float* widened) {
  const auto plus = [](Vec x, Vec y) { return x + y; };
  const int64_t offset = batch_offset(c_batch, outer, inner) + m * N + n;
  if (e.bias != nullptr) {
    combine(sums, sums_row, rows, columns, element(e.bias, e.bias_dtype, n), e.bias_dtype, 0, plus);
  }
  if (e.residual != nullptr) {
    combine(sums, sums_row, rows, columns, element(e.residual, e.residual_dtype, offset),
            e.residual_dtype, N, plus);
  }
  if (e.activation != Activation::kNone || e.grad != ActivationGrad::kNone) {
    MatmulEpilogue floats{};
    floats.activation = e.activation;
    floats.grad = e.grad;
    floats.alpha = e.alpha;
    if (e.grad != ActivationGrad::kNone) {
      const void* of = element(e.grad_of, e.grad_dtype, offset);
      floats.grad_of = static_cast<const float*>(of);
      floats.grad_row = N;
      if (e.grad_dtype == Dtype::bfloat16) {
        combine(widened, columns, rows, columns, of, e.grad_dtype, N, [](Vec, Vec y) { return y; });
        floats.grad_of = widened;
        floats.grad_row = columns;
      }
    }
    apply_epilogue(floats, 0, 0, 0, 0, sums, sums_row, rows, columns, false);
  }
  if (c_dtype == Dtype::float32) {
    float* target = static_cast<float*>(c);
    if (target != sums) copy_rows(sums, sums_row, target, N, rows, columns);
    return;
  }
  uint16_t* target = static_cast<uint16_t*>(c);
  for (int64_t i = 0; i < rows; ++i) {
    const float* s = sums + i * sums_row;
    int64_t k = 0;
    for (; k + W <= columns; k += W) store_bf16(Vec::load(s + k), target + k);
    if (k < columns) store_bf16_n(Vec::load_n(s + k, columns - k), target + k, columns - k);
    target += N;
  }
}

void matmul_bf16_combine(const CombineBf16Args& p, Range blocks, void* scratch) {
  float* sums = static_cast<float*>(scratch);
  float* widened = sums + p.N;
  const Split rows(p.M, p.blocks_m);
  const int64_t slice_stride = p.batch[0] * p.batch[1] * p.M * p.N;
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const int64_t batch = block / p.blocks_m, part = block % p.blocks_m;
    const int64_t outer = batch / p.batch[1], inner = batch % p.batch[1];
    for (int64_t m = rows.at(part); m < rows.at(part + 1); ++m) {
      const float* first = p.partial + (batch * p.M + m) * p.N;
      for (int64_t n = 0; n < p.N; n += W) {
        const int64_t lanes = p.N - n < W ? p.N - n : W;
        const float* partial = first + n;
        Vec sum = Vec::load_n(partial, lanes);
        for (int64_t s = 1; s < p.slices; ++s) {
          partial += slice_stride;
          sum = sum + Vec::load_n(partial, lanes);
        }
        sum.store_n(sums + n, lanes);
      }
      void* c = element(p.c, p.c_dtype, batch_offset(p.c_batch, outer, inner) + m * p.N);
      finish_bf16(p.epilogue, outer, inner, p.c_batch, p.N, m, 0, sums, p.N, 1, p.N, c, p.c_dtype,
                  widened);
    }
  }
}

}  // namespace handmill::HM_ISA
