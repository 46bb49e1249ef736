// Arguments of random numbers. seed_state: (seed, call). Elements from 4 i on take the words of
// counter i. Plain aggregates: sizes and strides count elements. A block is a run of
// `..._per_block` items, the last one shorter.
#pragma once

#include <cstdint>

namespace handmill {

struct RandomArgs {
  const int64_t* seed_state;
  float* y;
  int64_t size, per_block;  // per_block: a multiple of 128
};

// y = x * scale where the word is >= threshold, else 0; drop_all: 0 everywhere.
struct DropoutArgs {
  const float* x;
  const int64_t* seed_state;
  float* y;
  int64_t size, per_block;  // per_block: a multiple of 128
  uint32_t threshold;
  float scale;
  bool drop_all;
};

// y: the numbers 0 .. n - 1 in the order of their words, equal ones in their own. One block.
struct RandomOrderArgs {
  const float* words;        // the bits of n words
  uint64_t *items, *memory;  // n each
  int32_t* y;
  int64_t n;  // < 2^31
};

struct AdvanceSeedArgs {
  const int64_t* seed_state;
  int64_t* y;
};

}  // namespace handmill
