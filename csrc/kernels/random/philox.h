// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), many
// blocks at once.
#pragma once

#include "simd/simd.h"
#include "simd/transpose.h"

namespace handmill::HM_ISA {

inline constexpr int kPhiloxBlocks = 32;                // Philox blocks made at once, 8 to a group
inline constexpr int kPhiloxWords = 4 * kPhiloxBlocks;  // their words

// The order in which the 8 blocks of a group lie in the lanes: after the transposition of 4 x 4
// words within each half, word w of block b is at 4 b + w.
inline constexpr int32_t kLaneOfGroup[8] = {0, 2, 4, 6, 1, 3, 5, 7};

struct Stream {
  uint32_t seed[2], call[2];
};

HM_INLINE Stream stream_of(const int64_t* seed_state) {
  const uint64_t seed = static_cast<uint64_t>(seed_state[0]);
  const uint64_t call = static_cast<uint64_t>(seed_state[1]);
  return {{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
          {static_cast<uint32_t>(call), static_cast<uint32_t>(call >> 32)}};
}

HM_INLINE VecI splat(uint32_t x) { return VecI::broadcast(static_cast<int32_t>(x)); }

// The four words of one block in each lane.
struct Words {
  VecI w[4];
};

// Two vectors of blocks at once: one alone waits for its multiplications (0.84 against 0.57 ns a
// word, AVX-512 on Zen 4).
HM_INLINE void philox(const VecI block_low[2], uint32_t block_high, const Stream& stream,
                      Words out[2]) {
  for (int s = 0; s < 2; ++s) {
    out[s] = {{block_low[s], splat(block_high), splat(stream.call[0]), splat(stream.call[1])}};
  }
  uint32_t k0 = stream.seed[0], k1 = stream.seed[1];
  const VecI m0 = splat(0xD2511F53u), m1 = splat(0xCD9E8D57u);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 2
    for (int s = 0; s < 2; ++s) {
      VecI* c = out[s].w;
      const VecI high0 = mul_high_unsigned(m0, c[0]), low0 = m0 * c[0];
      const VecI high1 = mul_high_unsigned(m1, c[2]), low1 = m1 * c[2];
      c[0] = high1 ^ c[1] ^ splat(k0);
      c[1] = low1;
      c[2] = high0 ^ c[3] ^ splat(k1);
      c[3] = low0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

// words[0 .. kPhiloxWords): those of blocks first .. first + kPhiloxBlocks - 1 (first is a multiple
// of kPhiloxBlocks) after `change`, which maps the four words of a block to four others.
template <class F>
HM_INLINE void make_words(const Stream& stream, uint64_t first, F change, float* words) {
  const uint32_t high = static_cast<uint32_t>(first >> 32);
  float rows[4][kPhiloxBlocks];
  int32_t lane_block[kPhiloxBlocks];
  for (int i = 0; i < kPhiloxBlocks; ++i) {
    lane_block[i] =
        static_cast<int32_t>(static_cast<uint32_t>(first)) + (i & ~7) + kLaneOfGroup[i & 7];
  }
  for (int i = 0; i < kPhiloxBlocks; i += 2 * VecI::width) {
    const VecI block_low[2] = {VecI::load(lane_block + i),
                               VecI::load(lane_block + i + VecI::width)};
    Words block[2];
    philox(block_low, high, stream, block);
    for (int s = 0; s < 2; ++s) {
      block[s] = change(block[s]);
      for (int k = 0; k < 4; ++k) as_float(block[s].w[k]).store(rows[k] + i + s * VecI::width);
    }
  }
  for (int group = 0; group < kPhiloxBlocks; group += 8) {
    Lanes8 row[4];
    for (int k = 0; k < 4; ++k) std::memcpy(&row[k], rows[k] + group, sizeof row[k]);
    const Lanes8 low01 = shuffle8<0, 8, 1, 9, 4, 12, 5, 13>(row[0], row[1]);
    const Lanes8 high01 = shuffle8<2, 10, 3, 11, 6, 14, 7, 15>(row[0], row[1]);
    const Lanes8 low23 = shuffle8<0, 8, 1, 9, 4, 12, 5, 13>(row[2], row[3]);
    const Lanes8 high23 = shuffle8<2, 10, 3, 11, 6, 14, 7, 15>(row[2], row[3]);
    const Lanes8 out[4] = {shuffle8<0, 1, 8, 9, 4, 5, 12, 13>(low01, low23),
                           shuffle8<2, 3, 10, 11, 6, 7, 14, 15>(low01, low23),
                           shuffle8<0, 1, 8, 9, 4, 5, 12, 13>(high01, high23),
                           shuffle8<2, 3, 10, 11, 6, 7, 14, 15>(high01, high23)};
    std::memcpy(words + 4 * group, out, sizeof out);
  }
}

}  // namespace handmill::HM_ISA
