// Products by weights of which blocks of 16 columns of a row are zero, as compress.prune(...,
// granularity="block") leaves them: packing a constant B lists, for each such block of columns, the
// rows that are not zero, and the product passes over the others.
//
// Sums are those of the dense product, term by term in the same order, without terms that are zero,
// so results have the same bits: a sum that is 0 keeps its sign, unless a negative product
// underflowed to -0. Rows of A that hold what is not finite are multiplied by the zeros, too.
#pragma once

#include <type_traits>

#include "kernels/matmul/parts.h"

namespace handmill::HM_ISA {

// One for each panel: whether it is sparse. Behind the panels of one matrix.
template <class Float>
HM_INLINE auto sparse_flags(Float* packed, int64_t K, int64_t vectors) {
  using Flags = std::conditional_t<std::is_const_v<Float>, const int32_t, int32_t>;
  return reinterpret_cast<Flags*>(packed + K * vectors * Vec::width);
}

HM_INLINE bool any_sparse(const int32_t* flags, int64_t begin, int64_t end) {
  for (int64_t panel = begin; panel < end; ++panel) {
    if (flags[panel] != 0) return true;
  }
  return false;
}

// A sparse panel is its units, one after another: up to kUnitVectors vectors inside one block of 16
// columns. A unit holds int32 starts[chunks + 1], where the list of each chunk begins and ends;
// uint16 rows[count], ascending; and count rows of whole vectors; each from a line of cache on.
inline constexpr int64_t kBlockVectors = Vec::width >= 16 ? 1 : 16 / Vec::width;
inline constexpr int kUnitVectors = Vec::width >= 16 ? 1 : 2;

// Vectors of the unit that begins at vector v of a panel.
HM_INLINE int unit_vectors(int64_t v, int64_t v_end) {
  const int64_t block_end = (v / kBlockVectors + 1) * kBlockVectors;
  const int64_t end = block_end < v_end ? block_end : v_end;
  return static_cast<int>(end - v < kUnitVectors ? end - v : kUnitVectors);
}

HM_INLINE int64_t whole_lines(int64_t words) { return (words + 15) / 16 * 16; }
HM_INLINE int64_t words_of_starts(int64_t chunks) { return whole_lines(chunks + 1); }
HM_INLINE int64_t words_of_rows(int64_t count) { return whole_lines((count + 1) / 2); }

struct SparseShape {
  int64_t K, N, chunks;
};

// Packs the panel of vectors [v_begin, v_end) of b as a sparse one, where enough of it is zero for
// that to pay; otherwise returns 0 and leaves `packed` to the dense panel.
int32_t pack_sparse(const float* b, int64_t b_row, const SparseShape& shape, int64_t v_begin,
                    int64_t v_end, float* packed);

// Rows [m_begin, m_end) and a chunk of K of a product, by the sparse ones of panels [panel_begin,
// panel_end).
struct SparseChunk {
  const float* a;         // A[m_begin, k_begin], maybe a copy
  const float* a_source;  // where that lies in A
  int64_t a_row, a_col;
  int64_t m_begin, m_end;
  int64_t chunk, k_begin, k_end;
  const float* b;  // packed
  const int32_t* flags;
  Split panels;
  int64_t panel_begin, panel_end;
  float* c;  // C[0, 0], or the partial sums
  int64_t c_row;
  int64_t offset;  // of C[0, 0] in the operands of the epilogue
  bool add_to_c;
  RegisterFinish finish;
};

// What is known of parts of A from the blocks before, by chunk.
struct RowsSeen {
  static constexpr int kChunks = 8;
  struct Part {
    const float* a;
    int64_t rows;
    bool are_finite;
  };
  Part of[kChunks];
};

void multiply_sparse(const MatmulArgs& p, const SparseChunk& chunk, RowsSeen& seen);

}  // namespace handmill::HM_ISA
