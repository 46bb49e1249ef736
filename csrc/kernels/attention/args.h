// Arguments of attention: queries (B, T, N, H), keys (B, S, K, H), values (B, S, K, V), N = G K.
// Plain aggregates. The rows of one head of keys are its T G queries, row i G + g being query i of
// the head k G + g.
#pragma once

#include <cstdint>

namespace handmill {

// What both directions need.
struct AttentionScores {
  const float *q, *k, *v;
  const uint8_t* mask;        // null: all True
  const int32_t* lengths;     // (B), null: S
  const int32_t* start;       // (B), null: 0
  const int32_t* rows;        // (B, S): where the keys of each row lie, null: in that row
  const int64_t* seed_state;  // null: no dropout
  int64_t B, T, S, N, K, H, V;
  int64_t mask_stride[4];  // of (B, N, T, S); 0 where it is the same for all
  int64_t window;          // 0: none
  float scale;
  float kept;          // 1 / (1 - rate)
  uint32_t threshold;  // words below it are left out
  bool causal;
};

// A block is a run of kRows rows of one head of keys.
struct AttentionArgs {
  AttentionScores of;
  float* y;      // (B, T, N, V)
  float* stats;  // (B, T, N, 2): the largest score of a row, and 1 / sum of exp; 0, 0 of empty ones
};

// A block is a head of keys.
struct AttentionGradArgs {
  AttentionScores of;
  const float *y, *stats, *dy;
  float *dq, *dk, *dv;
};

// Sums go over kKeys keys at a time, counted from the first: their order does not depend on T, S or
// where a query stands. The rest decides speed alone.
struct AttentionBlocks {
  static constexpr int64_t kKeys = 256;
  static constexpr int64_t kRows = 192;     // of a block, forward: keys are packed once for them
  static constexpr int64_t kGradRows = 48;  // scores of so many rows are held, backward
  static constexpr int64_t kLine = 16;      // floats
  static constexpr int64_t kStride = kKeys + kLine;  // of rows of scores: not all in one set

  static constexpr int64_t padded(int64_t n) { return (n + kLine - 1) / kLine * kLine; }
  // Bytes of scratch. Panels of keys are at most 64 columns wide, so 320 hold 256 keys of any.
  static constexpr int64_t forward_scratch(int64_t H, int64_t V) {
    const int64_t h = padded(H), v = padded(V);
    return 4 * (320 * h + kKeys * v + kRows * (v + 2) + 8 * (kStride + h) + 4 * kLine) + 512;
  }
  static constexpr int64_t backward_scratch(int64_t H, int64_t V) {
    const int64_t h = padded(H), v = padded(V);
    return 4 * (320 * (h + v) + kKeys * (2 * h + v) + kGradRows * (3 * h + v + 4) +
                2 * kGradRows * kStride) +
           512;
  }
};

}  // namespace handmill
