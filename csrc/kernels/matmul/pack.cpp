// Copies of matmul operands into the order in which the register tiles read them.
#include "kernels/matmul/parts.h"
#include "kernels/matmul/sparse.h"
#include "simd/transpose.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;

// dst[k * stride + n] = src[k + n * col] for K x columns, B given along k.
void copy_transposed(const float* src, int64_t col, int64_t K, int64_t columns, float* dst,
                     int64_t stride) {
  int64_t n = 0;
  for (; n + 8 <= columns; n += 8) {
    const float* src_n = src + n * col;
    int64_t k = 0;
    for (; k + 8 <= K; k += 8) transpose_8x8(src_n + k, col, dst + k * stride + n, stride);
    for (; k < K; ++k) {
      for (int i = 0; i < 8; ++i) dst[k * stride + n + i] = src_n[i * col + k];
    }
  }
  for (; n < columns; ++n) {
    for (int64_t k = 0; k < K; ++k) dst[k * stride + n] = src[n * col + k];
  }
}

}  // namespace

void copy_rows(const float* src, int64_t src_stride, float* dst, int64_t dst_stride, int64_t rows,
               int64_t n) {
  for (int64_t i = 0; i < rows; ++i) {
    int64_t j = 0;
    for (; j + W <= n; j += W) Vec::load(src + j).store(dst + j);
    if (j < n) Vec::load_n(src + j, n - j).store_n(dst + j, n - j);
    src += src_stride;
    dst += dst_stride;
  }
}

void copy_panel(const float* src, int64_t row, int64_t col, int64_t K, int64_t columns,
                int64_t vectors, float* dst) {
  const int64_t stride = vectors * W;
  if (col == 1) {
    const int64_t whole = columns / W, rest = columns % W;
    for (int64_t k = 0; k < K; ++k) {
      const float* src_k = src + k * row;
      float* dst_k = dst + k * stride;
      for (int64_t n = 0; n < stride; n += 16) __builtin_prefetch(src_k + 12 * row + n);
      for (int64_t v = 0; v < whole; ++v) Vec::load(src_k + v * W).store(dst_k + v * W);
      if (rest > 0) Vec::load_n(src_k + whole * W, rest).store(dst_k + whole * W);
    }
    return;
  }
  if (columns < stride) {
    for (int64_t k = 0; k < K; ++k) Vec::zero().store(dst + k * stride + stride - W);
  }
  if (row == 1) {
    copy_transposed(src, col, K, columns, dst, stride);
    return;
  }
  for (int64_t k = 0; k < K; ++k) {
    for (int64_t n = 0; n < columns; ++n) dst[k * stride + n] = src[k * row + n * col];
  }
}

void pack_b(const MatmulPackArgs& p, Range blocks, void*) {
  if (p.K == 0 || p.N == 0) return;
  const int64_t vectors = ceil_div(p.N, W);
  const int64_t num_panels = ceil_div(vectors, p.panel_vectors);
  const Split panels(vectors, num_panels);
  const Split groups(num_panels, p.blocks_n);
  const Split chunks(p.K, p.blocks_k);
  for (int64_t i = blocks.begin; i < blocks.end; ++i) {
    const int64_t chunk = i % p.blocks_k;
    const int64_t group = i / p.blocks_k % p.blocks_n;
    const int64_t batch = i / p.blocks_k / p.blocks_n;
    const int64_t outer = batch / p.batch[1], inner = batch % p.batch[1];
    const float* b = floats(p.b.data) + batch_offset(p.b.batch, outer, inner);
    float* packed = static_cast<float*>(p.packed) + batch_offset(p.packed_batch, outer, inner);
    int32_t* const flags = p.finds_zeros ? sparse_flags(packed, p.K, vectors) : nullptr;
    for (int64_t panel = groups.at(group); flags != nullptr && panel < groups.at(group + 1);
         ++panel) {
      flags[panel] = pack_sparse(b, p.b.row, {p.K, p.N, p.chunks}, panels.at(panel),
                                 panels.at(panel + 1), packed);
    }
    const int64_t k_end = chunks.at(chunk + 1);
    // Along rows of B, a few at a time: runs of whole pages, for the hardware prefetcher.
    const int64_t step = p.b.col == 1 ? 4 : p.K;
    for (int64_t k = chunks.at(chunk), rows = 0; k < k_end; k += rows) {
      rows = k_end - k < step ? k_end - k : step;
      const float* b_k = b + k * p.b.row;
      if (p.run > 0) {
        const int64_t left = p.run - k % p.run;
        if (rows > left) rows = left;
        b_k = b + k / p.run * p.run_step + k % p.run * p.b.row;
      }
      for (int64_t panel = groups.at(group); panel < groups.at(group + 1); ++panel) {
        if (flags != nullptr && flags[panel] != 0) continue;
        const int64_t v_begin = panels.at(panel), panel_vectors = panels.at(panel + 1) - v_begin;
        const int64_t n = v_begin * W;
        const int64_t columns = p.N - n < panel_vectors * W ? p.N - n : panel_vectors * W;
        copy_panel(b_k + n * p.b.col, p.b.row, p.b.col, rows, columns, panel_vectors,
                   packed + p.K * n + k * panel_vectors * W);
      }
    }
  }
}

}  // namespace handmill::HM_ISA
