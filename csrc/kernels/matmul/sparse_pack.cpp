// Packs panels of weights as sparse ones, where that pays.
#include "kernels/matmul/sparse.h"

namespace handmill::HM_ISA {
namespace {

constexpr int W = Vec::width;
// The part of a panel that may be left of a sparse one: above, the dense product is as fast. Zen 3,
// avx2, 784-512-256-10 at batch 1, 32 and 256: 0.88 1.0 to 1.1x, 0.8 1.1 to 1.2x, 0.6 1.3 to 1.6x.
// Not measured at avx512, whose tiles load an element of A for each product: 3 / 4 by that count.
constexpr double kMostKept = W >= 16 ? 0.65 : 0.8;
constexpr int64_t kSampledRows = 64;

// Whether a row of a unit holds anything but zeros.
HM_INLINE bool is_kept(const float* b, int vectors, int64_t columns) {
  Mask zero = Vec::zero() == Vec::zero();
  for (int v = 0; v < vectors && v * W < columns; ++v) {
    const int64_t lanes = columns - v * W < W ? columns - v * W : W;
    const Vec x = lanes == W ? Vec::load(b + v * W) : Vec::load_n(b + v * W, lanes);
    zero = zero & (x == Vec::zero());
  }
  return !all(zero);
}

int64_t count_kept(const float* b, int64_t b_row, int64_t K, int vectors, int64_t columns) {
  int64_t count = 0;
  for (int64_t k = 0; k < K; ++k) count += is_kept(b + k * b_row, vectors, columns);
  return count;
}

// Whether a look at some rows finds any zero. Weights that nobody pruned cost no more than that.
bool looks_sparse(const float* b, int64_t b_row, int64_t K, int vectors, int64_t columns) {
  int64_t kept = 0;
  for (int64_t i = 0; i < kSampledRows; ++i) {
    kept += is_kept(b + i * K / kSampledRows * b_row, vectors, columns);
  }
  return kept < kSampledRows;
}

// Writes a unit; returns where the next one goes.
float* write_unit(const float* b, int64_t b_row, const SparseShape& s, int vectors, int64_t columns,
                  int64_t count, float* out) {
  auto* starts = reinterpret_cast<int32_t*>(out);
  auto* rows = reinterpret_cast<uint16_t*>(out + words_of_starts(s.chunks));
  float* values = out + words_of_starts(s.chunks) + words_of_rows(count);
  const Split chunks(s.K, s.chunks);
  int32_t found = 0;
  for (int64_t chunk = 0; chunk < s.chunks; ++chunk) {
    starts[chunk] = found;
    for (int64_t k = chunks.at(chunk); k < chunks.at(chunk + 1); ++k) {
      const float* b_k = b + k * b_row;
      if (!is_kept(b_k, vectors, columns)) continue;
      rows[found++] = static_cast<uint16_t>(k);
      for (int v = 0; v < vectors; ++v, values += W) {
        const int64_t left = columns - v * W;
        (left >= W ? Vec::load(b_k + v * W) : Vec::load_n(b_k + v * W, left)).store(values);
      }
    }
  }
  starts[s.chunks] = found;
  return values;
}

}  // namespace

int32_t pack_sparse(const float* b, int64_t b_row, const SparseShape& s, int64_t v_begin,
                    int64_t v_end, float* packed) {
  const int64_t room = s.K * (v_end - v_begin) * W;
  int64_t counts[8];  // of the units: a panel has at most so many vectors
  int64_t words = 0, kept = 0;
  int number = 0;
  for (int64_t v = v_begin; v < v_end; v += unit_vectors(v, v_end)) {
    const int vectors = unit_vectors(v, v_end);
    const float* b_v = b + v * W;
    const int64_t columns = s.N - v * W;
    if (!looks_sparse(b_v, b_row, s.K, vectors, columns)) return 0;
    const int64_t count = count_kept(b_v, b_row, s.K, vectors, columns);
    words += words_of_starts(s.chunks) + words_of_rows(count) + count * vectors * W;
    kept += count * vectors * W;
    counts[number++] = count;
  }
  if (static_cast<double>(kept) > kMostKept * static_cast<double>(room) || words > room) return 0;
  float* out = packed + s.K * v_begin * W;
  number = 0;
  for (int64_t v = v_begin; v < v_end; v += unit_vectors(v, v_end)) {
    out =
        write_unit(b + v * W, b_row, s, unit_vectors(v, v_end), s.N - v * W, counts[number++], out);
  }
  return 1;
}

}  // namespace handmill::HM_ISA
