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

void activate(const Rows& r, Activation activation, float alpha) {
  const Vec a = Vec::broadcast(alpha);
  switch (activation) {
    case Activation::kNone:
      return;
    case Activation::kRelu:
      return map(r, [](Vec x) { return relu(x); });
    case Activation::kRelu6:
      return map(r, [](Vec x) { return relu6(x); });
    case Activation::kLeakyRelu:
      return map(r, [a](Vec x) { return leaky_relu(x, a); });
    case Activation::kElu:
      return map(r, [a](Vec x) { return elu(x, a); });
    case Activation::kSelu:
      return map(r, [](Vec x) { return selu(x); });
    case Activation::kSigmoid:
      return map(r, [](Vec x) { return sigmoid(x); });
    case Activation::kHardSigmoid:
      return map(r, [](Vec x) { return hard_sigmoid(x); });
    case Activation::kTanh:
      return map(r, [](Vec x) { return tanh(x); });
    case Activation::kSoftplus:
      return map(r, [](Vec x) { return softplus(x); });
    case Activation::kSoftsign:
      return map(r, [](Vec x) { return softsign(x); });
    case Activation::kSilu:
      return map(r, [](Vec x) { return silu(x); });
    case Activation::kHardSilu:
      return map(r, [](Vec x) { return hard_silu(x); });
    case Activation::kGelu:
      return map(r, [](Vec x) { return gelu(x); });
    case Activation::kGeluTanh:
      return map(r, [](Vec x) { return gelu_tanh(x); });
    case Activation::kExp:
      return map(r, [](Vec x) { return exp(x); });
    case Activation::kSquare:
      return map(r, [](Vec x) { return x * x; });
  }
}

void multiply_by_grad(const Rows& r, ActivationGrad grad, float alpha, const float* of,
                      int64_t of_row) {
  const Vec one = Vec::broadcast(1.0f), a = Vec::broadcast(alpha);
  switch (grad) {
    case ActivationGrad::kNone:
      return;
    case ActivationGrad::kMultiply:
    case ActivationGrad::kExp:
      return map(r, of, of_row, [](Vec c, Vec u) { return c * u; });
    case ActivationGrad::kRelu:
      return map(r, of, of_row, [](Vec c, Vec y) { return relu_grad(c, y); });
    case ActivationGrad::kRelu6:
      return map(r, of, of_row, [](Vec c, Vec y) { return relu6_grad(c, y); });
    case ActivationGrad::kLeakyRelu:
      return map(r, of, of_row, [a](Vec c, Vec y) { return leaky_relu_grad(c, y, a); });
    case ActivationGrad::kElu:
      return map(r, of, of_row, [a](Vec c, Vec y) { return elu_grad(c, y, a); });
    case ActivationGrad::kSelu:
      return map(r, of, of_row, [](Vec c, Vec y) { return selu_grad(c, y); });
    case ActivationGrad::kSigmoid:
      return map(r, of, of_row, [](Vec c, Vec y) { return sigmoid_grad(c, y); });
    case ActivationGrad::kHardSigmoid:
      return map(r, of, of_row, [](Vec c, Vec y) { return hard_sigmoid_grad(c, y); });
    case ActivationGrad::kTanh:
      return map(r, of, of_row, [](Vec c, Vec y) { return tanh_grad(c, y); });
    case ActivationGrad::kSoftplus:  // of y, unlike softplus_grad
      return map(r, of, of_row, [](Vec c, Vec y) { return c * -expm1(-y); });
    case ActivationGrad::kSoftsign:  // of y, unlike softsign_grad
      return map(r, of, of_row, [one](Vec c, Vec y) {
        const Vec d = one - abs(y);
        return c * (d * d);
      });
    case ActivationGrad::kSilu:
      return map(r, of, of_row, [](Vec c, Vec x) { return silu_grad(c, x); });
    case ActivationGrad::kGelu:
      return map(r, of, of_row, [](Vec c, Vec x) { return gelu_grad(c, x); });
    case ActivationGrad::kGeluTanh:
      return map(r, of, of_row, [](Vec c, Vec x) { return gelu_tanh_grad(c, x); });
  }
}

}  // namespace

void apply_epilogue(const MatmulEpilogue& e, int64_t offset, int64_t row, float* c, int64_t c_row,
                    int64_t rows, int64_t columns, bool skip_activation) {
  const bool has_grad = e.grad != ActivationGrad::kNone;
  // Rows without gaps are one: masked vectors at the end of each would cost as much as whole
  // ones, or more.
  const bool is_flat = c_row == columns && (row == columns || (e.residual == nullptr && !has_grad));
  const Rows r = is_flat ? Rows{c, 0, 1, rows * columns} : Rows{c, c_row, rows, columns};
  if (e.residual != nullptr) {
    map(r, floats(e.residual) + offset, row, [](Vec x, Vec u) { return x + u; });
  }
  if (!skip_activation) activate(r, e.activation, e.alpha);
  if (has_grad) multiply_by_grad(r, e.grad, e.alpha, floats(e.grad_of) + offset, row);
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
