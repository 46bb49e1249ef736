// Copies of operands into pairs of bfloat16 along k, rounded on the way where they are float32.
#include "kernels/cast/convert.h"
#include "kernels/matmul/bf16_parts.h"
#include "simd/transpose.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;

Bfloat16 item(const float* x) { return to_bfloat16(*x); }
Bfloat16 item(const uint16_t* x) { return {*x}; }

// The nearest bfloat16 in the upper half of each lane, the lower half zero.
HM_INLINE VecI upper_halves(const float* x, int64_t n) {
  const Vec value = n == W ? Vec::load(x) : Vec::load_n(x, n);
  const VecI bits = as_int(value);
  const VecI odd = shift_right_logical<16>(bits) & VecI::broadcast(1);
  const VecI rounded = bits + VecI::broadcast(0x7fff) + odd;
  const VecI quiet = bits | VecI::broadcast(0x400000);
  return select(is_nan(value), quiet, rounded) & VecI::broadcast(-65536);
}
HM_INLINE VecI upper_halves(const uint16_t* x, int64_t n) {
  return as_int(n == W ? load_bf16(x) : load_bf16_n(x, n));
}

HM_INLINE void store_pairs(VecI even, VecI odd, uint16_t* dst) {
  int32_t words[W];
  (shift_right_logical<16>(even) | odd).store(words);
  std::memcpy(dst, words, sizeof words);
}

// Rows of X lie in memory as they are: two of them interleave.
template <class T>
void interleave(const PairSource& source, const T* x, uint16_t* dst, int64_t stride) {
  for (int64_t k = 0; k < source.K; k += 2) {
    const T* even = x + k * source.k_stride;
    const T* odd = even + source.k_stride;
    const bool is_last = k + 1 == source.K;
    for (int64_t n = 0; n < source.N; n += W) {
      const int64_t lanes = source.N - n < W ? source.N - n : W;
      store_pairs(upper_halves(even + n, lanes),
                  is_last ? VecI::zero() : upper_halves(odd + n, lanes), dst + 2 * n);
    }
    dst += 2 * stride;
  }
}

HM_INLINE void copy_halves(const float* x, uint16_t* dst, int64_t n) {
  int64_t i = 0;
  for (; i + W <= n; i += W) store_bf16(Vec::load(x + i), dst + i);
  if (i < n) store_bf16_n(Vec::load_n(x + i, n - i), dst + i, n - i);
}
HM_INLINE void copy_halves(const uint16_t* x, uint16_t* dst, int64_t n) {
  std::memcpy(dst, x, static_cast<size_t>(n) * sizeof *x);
}

// Columns of X lie along k, so that a pair is one word: words are transposed, 8 x 8 at a time.
template <class T>
void transpose_pairs(const PairSource& source, const T* x, uint16_t* dst, int64_t stride) {
  constexpr int64_t kPairs = 8;
  float words[kPairs * 8], turned[kPairs * 8];
  for (int64_t n = 0; n < source.N; n += 8) {
    const int64_t columns = source.N - n < 8 ? source.N - n : 8;
    for (int64_t k = 0; k < source.K; k += 2 * kPairs) {
      const int64_t rest = source.K - k < 2 * kPairs ? source.K - k : 2 * kPairs;
      const bool is_whole = columns == 8 && rest == 2 * kPairs;
      if (!is_whole) std::memset(words, 0, sizeof words);
      for (int64_t i = 0; i < columns; ++i) {
        uint16_t halves[2 * kPairs] = {};
        copy_halves(x + (n + i) * source.n_stride + k, halves, rest);
        std::memcpy(words + i * kPairs, halves, sizeof halves);
      }
      transpose_8x8(words, kPairs, turned, 8);
      for (int64_t j = 0; 2 * j < rest; ++j) {
        std::memcpy(dst + (k / 2 + j) * 2 * stride + 2 * n, turned + j * 8,
                    static_cast<size_t>(columns) * 4);
      }
    }
  }
}

template <class T>
void pack_pairs_of(const PairSource& source, uint16_t* dst, int64_t stride, int64_t columns) {
  const T* x = static_cast<const T*>(source.x);
  const int64_t padded = source.N / W * W;
  if (padded < columns) {  // the vector with the last columns, and what lies behind
    for (int64_t j = 0; 2 * j < source.K; ++j) {
      std::memset(dst + 2 * (j * stride + padded), 0, static_cast<size_t>(columns - padded) * 4);
    }
  }
  if (source.n_stride == 1) return interleave(source, x, dst, stride);
  if (source.k_stride == 1) return transpose_pairs(source, x, dst, stride);
  for (int64_t j = 0; 2 * j < source.K; ++j) {
    for (int64_t n = 0; n < source.N; ++n) {
      const T* first = x + 2 * j * source.k_stride + n * source.n_stride;
      const Bfloat16 second = 2 * j + 1 < source.K ? item(first + source.k_stride) : Bfloat16{0};
      dst[2 * (j * stride + n)] = item(first).bits;
      dst[2 * (j * stride + n) + 1] = second.bits;
    }
  }
}

template <class T>
void pack_rows_of(const PairSource& source, uint16_t* dst, int64_t stride) {
  const T* x = static_cast<const T*>(source.x);
  for (int64_t n = 0; n < source.N; ++n) {
    copy_halves(x + n * source.n_stride, dst, source.K);
    if (source.K % 2 != 0) dst[source.K] = 0;
    dst += stride;
  }
}

}  // namespace

void pack_pairs(const PairSource& x, uint16_t* dst, int64_t stride, int64_t columns) {
  x.dtype == Dtype::bfloat16 ? pack_pairs_of<uint16_t>(x, dst, stride, columns)
                             : pack_pairs_of<float>(x, dst, stride, columns);
}

void pack_rows(const PairSource& x, uint16_t* dst, int64_t stride) {
  x.dtype == Dtype::bfloat16 ? pack_rows_of<uint16_t>(x, dst, stride)
                             : pack_rows_of<float>(x, dst, stride);
}

void pack_b_bf16(const MatmulPackArgs& p, Range blocks, void*) {
  const int64_t vectors = ceil_div(p.N, W), K2 = ceil_div(p.K, 2);
  const int64_t num_panels = ceil_div(vectors, p.panel_vectors);
  const Split panels(vectors, num_panels), groups(num_panels, p.blocks_n), runs(K2, p.blocks_k);
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const int64_t run = block % p.blocks_k;
    const int64_t group = block / p.blocks_k % p.blocks_n;
    const int64_t batch = block / p.blocks_k / p.blocks_n;
    const int64_t outer = batch / p.batch[1], inner = batch % p.batch[1];
    const int64_t j = runs.at(run), pairs = runs.at(run + 1) - j;
    const int64_t K = p.K - 2 * j < 2 * pairs ? p.K - 2 * j : 2 * pairs;
    const int64_t offset = batch_offset(p.b.batch, outer, inner) + 2 * j * p.b.row;
    uint16_t* packed =
        static_cast<uint16_t*>(p.packed) + 2 * batch_offset(p.packed_batch, outer, inner);
    for (int64_t panel = groups.at(group); panel < groups.at(group + 1); ++panel) {
      const int64_t n = panels.at(panel) * W, columns = panels.at(panel + 1) * W - n;
      const PairSource source{element(p.b.data, p.b.dtype, offset + n * p.b.col),
                              p.b.dtype,
                              p.b.row,
                              p.b.col,
                              K,
                              p.N - n < columns ? p.N - n : columns};
      pack_pairs(source, packed + 2 * (K2 * n + j * columns), columns, columns);
    }
  }
}

}  // namespace handmill::HM_ISA
