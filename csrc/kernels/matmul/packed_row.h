// One row times a packed matrix: a token or a sample through constant weights, at the speed of
// memory.
#pragma once

#include "kernels/matmul/parts.h"

namespace handmill::HM_ISA {

// Chunks [chunk_begin, chunk_end) of K of panels [panel_begin, panel_end) of C, one row.
struct PackedRow {
  const float* a;
  int64_t a_stride;
  const float* b;  // packed
  float* c;        // C[0, 0]
  const MatmulEpilogue* epilogue;
  int64_t offset;  // of C[0, 0] in the operands of the epilogue
  RegisterFinish finish;
  Split panels;  // of vectors
  int64_t panel_begin, panel_end;
  Split chunks;
  int64_t chunk_begin, chunk_end;
  int64_t K, N;
};

void multiply_packed_row(const PackedRow& p);

}  // namespace handmill::HM_ISA
