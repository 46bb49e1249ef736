#include "core/random.h"

#include <array>
#include <cstring>
#include <memory>
#include <utility>

namespace handmill {
namespace {

// One block: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
std::array<uint32_t, 4> philox_block(uint64_t seed, uint64_t block, uint64_t call) {
  uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32);
  uint32_t c2 = static_cast<uint32_t>(call), c3 = static_cast<uint32_t>(call >> 32);
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

constexpr int kDigitBits = 11;
constexpr int kDigits = 3;
constexpr size_t kBuckets = size_t{1} << kDigitBits;

size_t digit_of(uint64_t item, int digit) {
  return static_cast<size_t>(item >> (32 + digit * kDigitBits)) & (kBuckets - 1);
}

}  // namespace

void philox_words(uint64_t seed, uint64_t counter, int64_t n, uint32_t* out) {
  for (int64_t e = 0; e < n; e += 4) {
    const auto words = philox_block(seed, static_cast<uint64_t>(e) / 4, counter);
    std::memcpy(out + e, words.data(),
                sizeof(uint32_t) * static_cast<size_t>(n - e < 4 ? n - e : 4));
  }
}

// Radix sort, least significant digit first, of items (key << 32 | position); positions fit 32 bits
// up to 4 billion items, beyond which memory for them would be the first problem.
void permutation(uint64_t seed, uint64_t counter, int64_t n, int64_t* out) {
  if (n <= 0) return;
  const size_t size = static_cast<size_t>(n);
  const auto from = std::make_unique_for_overwrite<uint64_t[]>(size);
  const auto to = std::make_unique_for_overwrite<uint64_t[]>(size);
  std::array<std::array<size_t, kBuckets>, kDigits> starts{};
  for (size_t e = 0; e < size; e += 4) {
    const auto words = philox_block(seed, e / 4, counter);
    for (size_t i = e; i < e + 4 && i < size; ++i) {
      from[i] = uint64_t{words[i - e]} << 32 | i;
      for (int digit = 0; digit < kDigits; ++digit) {
        ++starts[static_cast<size_t>(digit)][digit_of(from[i], digit)];
      }
    }
  }
  uint64_t *source = from.get(), *target = to.get();
  for (int digit = 0; digit < kDigits; ++digit) {
    auto& start = starts[static_cast<size_t>(digit)];
    size_t total = 0;
    for (size_t& bucket : start) {
      const size_t count = bucket;
      bucket = total;
      total += count;
    }
    for (size_t i = 0; i < size; ++i) target[start[digit_of(source[i], digit)]++] = source[i];
    std::swap(source, target);
  }
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<int64_t>(source[i] & 0xffffffffu);
}

}  // namespace handmill
