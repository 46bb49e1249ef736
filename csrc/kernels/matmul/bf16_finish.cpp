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

void finish_bf16(const MatmulEpilogue& e, int64_t offset, int64_t n, float* sums, int64_t sums_row,
                 int64_t rows, int64_t columns, void* c, int64_t c_row, Dtype c_dtype,
                 float* widened) {
  const auto plus = [](Vec x, Vec y) { return x + y; };
  if (e.scale != nullptr) {
    combine(sums, sums_row, rows, columns, element(e.scale, e.scale_dtype, n), e.scale_dtype, 0,
            [](Vec x, Vec y) { return x * y; });
  }
  if (e.bias != nullptr) {
    combine(sums, sums_row, rows, columns, element(e.bias, e.bias_dtype, n), e.bias_dtype, 0, plus);
  }
  if (e.residual != nullptr) {
    combine(sums, sums_row, rows, columns, element(e.residual, e.residual_dtype, offset),
            e.residual_dtype, c_row, plus);
  }
  if (e.activation != Activation::none || e.grad != ActivationGrad::none) {
    MatmulEpilogue rest = e;
    rest.residual = nullptr;
    int64_t row = c_row;
    if (e.grad != ActivationGrad::none && e.grad_dtype == Dtype::bfloat16) {
      combine(widened, columns, rows, columns, element(e.grad_of, e.grad_dtype, offset),
              e.grad_dtype, c_row, [](Vec, Vec y) { return y; });
      rest.grad_of = widened;
      row = columns;
      offset = 0;
    }
    apply_epilogue(rest, offset, row, sums, sums_row, rows, columns, false);
  }
  if (c_dtype == Dtype::float32) {
    float* target = static_cast<float*>(c);
    if (target != sums) copy_rows(sums, sums_row, target, c_row, rows, columns);
    return;
  }
  uint16_t* target = static_cast<uint16_t*>(c);
  for (int64_t i = 0; i < rows; ++i) {
    const float* s = sums + i * sums_row;
    int64_t k = 0;
    for (; k + W <= columns; k += W) store_bf16(Vec::load(s + k), target + k);
    if (k < columns) store_bf16_n(Vec::load_n(s + k, columns - k), target + k, columns - k);
    target += c_row;
  }
}

void matmul_bf16_combine(const MatmulCombineArgs& p, Range blocks, void* scratch) {
  float* sums = static_cast<float*>(scratch);
  float* widened = sums + p.N;
  const Split rows(p.M, p.blocks_m), columns(ceil_div(p.N, W), p.blocks_n);
  const int64_t slice_stride = p.batch[0] * p.batch[1] * p.M * p.N;
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const int64_t column = block % p.blocks_n, row = block / p.blocks_n % p.blocks_m;
    const int64_t batch = block / p.blocks_n / p.blocks_m;
    const int64_t outer = batch / p.batch[1], inner = batch % p.batch[1];
    const int64_t n_begin = columns.at(column) * W, n_limit = columns.at(column + 1) * W;
    const int64_t count = (n_limit < p.N ? n_limit : p.N) - n_begin;
    for (int64_t m = rows.at(row); m < rows.at(row + 1); ++m) {
      const float* first = p.partial + (batch * p.M + m) * p.N + n_begin;
      for (int64_t n = 0; n < count; n += W) {
        const int64_t lanes = count - n < W ? count - n : W;
        const float* partial = first + n;
        Vec sum = Vec::load_n(partial, lanes);
        for (int64_t s = 1; s < p.slices; ++s) {
          partial += slice_stride;
          sum = sum + Vec::load_n(partial, lanes);
        }
        sum.store_n(sums + n, lanes);
      }
      const int64_t at = batch_offset(p.c_batch, outer, inner) + m * p.c_row + n_begin;
      finish_bf16(p.epilogue, at, n_begin, sums, p.N, 1, count, element(p.c, p.c_dtype, at),
                  p.c_row, p.c_dtype, widened);
    }
  }
}

}  // namespace handmill::HM_ISA
