// Arguments of the recurrent kernels. Plain aggregates.
//
// G gates of U units lie side by side: simple: h; gru: z, r, h; lstm: i, f, c, o. Steps are those
// of one row of the batch one after the other, so a block is some rows and all of their steps. The
// reset gate of gru acts on what R made of h for the candidate, that of gru_before on h itself.
#pragma once

#include <cstdint>

namespace handmill {

enum class RecurrentKind : int32_t { simple, gru, gru_before, lstm };

constexpr int gates_of(RecurrentKind kind) {
  return kind == RecurrentKind::lstm ? 4 : kind == RecurrentKind::simple ? 1 : 3;
}

// R (U, G U) as the register tiles read it: for each vector of units, each of its U rows, the
// vectors of the G gates; for the gradient R transposed, (G U, U), in panels of vectors of units.
struct RecurrentPackArgs {
  const float* r;
  float* packed;
  int64_t U, G;
  bool transposed;
};

struct RecurrentArgs {
  const float* z;       // (B, T, G U): what the inputs add
  const float* packed;  // R
  const float* h0;      // (B, U)
  const float* c0;      // (B, U), of lstm
  const float* bias;    // (U), of gru: added to h R for the candidate, before the reset gate
  const uint8_t* mask;  // (B, T): steps that count; null: all
  const float* drop;    // (B, G U): factors of h, for each gate; null: none
  float* y;             // (B, T, U): h after each step
  float* h;             // (B, U): h after the last one
  float* c;             // the same for c, of lstm
  float* gates;         // (B, T, G U): activations, may lie over z; null: not wanted
  float* cells;         // (B, T, U): c of lstm, h R + bias of the candidate of gru, what R makes
                        // the candidate of for gru_before; null: the same
  float* before;        // (B, T, U): h before each step; null: the same
  int64_t B, T, U;
  int64_t rows_per_block;
  RecurrentKind kind;
  bool backwards;  // begins with the last step
};

struct RecurrentGradArgs {
  const float* packed;   // R transposed
  const float* gates;    // of all but simple
  const float* cells;    // of lstm and gru
  const float* y;        // of simple
  const float* before;   // of gru and gru_before
  const float* c0;       // of lstm
  const float *dy, *dh;  // of y and h; null: zeros
  const float* dc;       // of c
  const uint8_t* mask;
  const float* drop;
  float* dz;   // (B, T, G U), may lie over gates
  float* dq;   // (B, T, U), of gru: of h R + bias for the candidate
  float* dh0;  // (B, U)
  float* dc0;  // (B, U), of lstm
  int64_t B, T, U;
  int64_t rows_per_block;
  RecurrentKind kind;
  bool backwards;
};

}  // namespace handmill
