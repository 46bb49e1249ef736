// Arguments of random numbers. seed_state: (seed, call). Elements from 4 i on take the words of
// counter i. Plain aggregates: sizes and strides count elements. A block is a run of
// `..._per_block` items, the last one shorter.
#pragma once

#include <cstdint>

namespace handmill {

// Each of `rows` rows of `size` numbers has a seed state of its own. A block is a part of one row,
// or `rows_per_block` whole rows where these are short.
struct RandomArgs {
  const int64_t* seed_state;  // of the first row; those of the others follow
  float* y;
  int64_t size, per_block;  // per_block: a multiple of 128
  int64_t rows, rows_per_block;
};

// Seed states of rows: those that the numbers of the rows have under one seed state.
struct RowSeedsArgs {
  const int64_t *seed_state, *row_numbers;
  int64_t* y;  // two for each row
  int64_t rows, rows_per_block;
  uint32_t view;  // < 2^31
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
