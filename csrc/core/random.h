// Random words for the host, of kernels/random/random.cpp, and permutations drawn from them.
// handmill/ops/philox.py has the NumPy twin.
#pragma once

#include <cstdint>

namespace handmill {

/// out[e] = word e % 4 of the block with counter (e / 4, counter) under the key `seed`, e < n.
void philox_words(uint64_t seed, uint64_t counter, int64_t n, uint32_t* out);

/// out = the positions 0 .. n - 1 in the order of their words, as
/// numpy.argsort(words, kind="stable") gives it.
void permutation(uint64_t seed, uint64_t counter, int64_t n, int64_t* out);

}  // namespace handmill
