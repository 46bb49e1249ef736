// The steps after the sums of a matmul: residual, activation, derivative; and the fixed-order sum
// of the slices of a split K. Formulas: args.h.
#include "kernels/matmul/parts.h"
#include "simd/activations.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;
struct Rows {
  float* c;
  int64_t c_row, rows, columns;
};

template <class F>
void map(const Rows& r, F f) {
  for (int64_t m = 0; m < r.rows; ++m) {
    float* c = r.c + m * r.c_row;
    int64_t n = 0;
    for (; n + W <= r.columns; n += W) f(Vec::load(c + n)).store(c + n);
    if (n < r.columns) f(Vec::load_n(c + n, r.columns - n)).store_n(c + n, r.columns - n);
  }
}

template <class F>
void map(const Rows& r, const float* u, int64_t u_row, F f) {
  for (int64_t m = 0; m < r.rows; ++m) {
    float* c = r.c + m * r.c_row;
    const float* u_m = u + m * u_row;
    int64_t n = 0;
    for (; n + W <= r.columns; n += W) f(Vec::load(c + n), Vec::load(u_m + n)).store(c + n);
    const int64_t rest = r.columns - n;
    if (rest > 0) f(Vec::load_n(c + n, rest), Vec::load_n(u_m + n, rest)).store_n(c + n, rest);
  }
}

void activate(const Rows& r, Activation activation) {
  switch (activation) {
    case Activation::none:
      return;
#define HM_ACTIVATION(name) \
  case Activation::name:    \
    return map(r, [](Vec x) { return name(x); });
#include "kernels/matmul/epilogues.def"
  }
}

void multiply_by_grad(const Rows& r, ActivationGrad grad, const float* of, int64_t of_row) {
  switch (grad) {
    case ActivationGrad::none:
      return;
#define HM_ACTIVATION_GRAD(name) \
  case ActivationGrad::name:     \
    return map(r, of, of_row, [](Vec c, Vec u) { return name##_grad(c, u); });
#include "kernels/matmul/epilogues.def"
  }
}

}  // namespace

void apply_epilogue(const MatmulEpilogue& e, int64_t offset, int64_t row, float* c, int64_t c_row,
                    int64_t rows, int64_t columns, bool skip_activation) {
  const bool has_grad = e.grad != ActivationGrad::none;
  // Rows without gaps are one: masked vectors at the end of each would cost as much as whole
  // ones, or more.
  const bool is_flat = c_row == columns && (row == columns || (e.residual == nullptr && !has_grad));
  const Rows r = is_flat ? Rows{c, 0, 1, rows * columns} : Rows{c, c_row, rows, columns};
  if (e.residual != nullptr) {
    map(r, floats(e.residual) + offset, row, [](Vec x, Vec u) { return x + u; });
  }
  if (!skip_activation) activate(r, e.activation);
  if (has_grad) multiply_by_grad(r, e.grad, floats(e.grad_of) + offset, row);
}

void matmul_combine(const MatmulCombineArgs& p, Range blocks, void*) {
  if (p.M == 0 || p.N == 0) return;
  const MatmulEpilogue& e = p.epilogue;
  const Split rows(p.M, p.blocks_m);
  const Split columns(ceil_div(p.N, W), p.blocks_n);
  const int64_t slice_stride = p.batch[0] * p.batch[1] * p.M * p.N;
  for (int64_t i = blocks.begin; i < blocks.end; ++i) {
    const int64_t column = i % p.blocks_n;
    const int64_t row = i / p.blocks_n % p.blocks_m;
    const int64_t batch = i / p.blocks_n / p.blocks_m;
    const int64_t outer = batch / p.batch[1], inner = batch % p.batch[1];
    const int64_t m_begin = rows.at(row), m_end = rows.at(row + 1);
    const int64_t n_begin = columns.at(column) * W;
    const int64_t n_limit = columns.at(column + 1) * W;
    const int64_t n_end = n_limit < p.N ? n_limit : p.N;
    float* c = static_cast<float*>(p.c) + batch_offset(p.c_batch, outer, inner);
    for (int64_t m = m_begin; m < m_end; ++m) {
      const float* partial_m = p.partial + (batch * p.M + m) * p.N;
      float* c_m = c + m * p.c_row;
      for (int64_t n = n_begin; n < n_end; n += W) {
        const int64_t lanes = n_end - n < W ? n_end - n : W;
        const float* partial = partial_m + n;
        Vec sum = Vec::load_n(partial, lanes);
        for (int64_t s = 1; s < p.slices; ++s) {
          partial += slice_stride;
          sum = sum + Vec::load_n(partial, lanes);
        }
        if (e.scale != nullptr) sum = sum * Vec::load_n(floats(e.scale) + n, lanes);
        if (e.bias != nullptr) sum = sum + Vec::load_n(floats(e.bias) + n, lanes);
        sum.store_n(c_m + n, lanes);
      }
    }
    const int64_t offset = m_begin * p.c_row + n_begin;
    apply_epilogue(e, batch_offset(p.c_batch, outer, inner) + offset, p.c_row, c + offset, p.c_row,
                   m_end - m_begin, n_end - n_begin, false);
  }
}

}  // namespace handmill::HM_ISA
