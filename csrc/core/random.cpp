#include "core/random.h"

#include <algorithm>
#include <array>
#include <bit>
#include <memory>
#include <utility>
#include <vector>

#include "core/registry.h"

namespace handmill {
namespace {

// Up to here buckets are faster than the radix sort: 1440 rows 6 against 11 us, 60,000 740 and 610.
constexpr size_t kMostInBuckets = 16384;

constexpr int kDigitBits = 11;
constexpr int kDigits = 3;
constexpr size_t kRadix = size_t{1} << kDigitBits;

size_t digit_of(uint64_t item, int digit) {
  return static_cast<size_t>(item >> (32 + digit * kDigitBits)) & (kRadix - 1);
}

// As many buckets as items, or half as many, by the first bits of the words: few items then stand
// out of order, none far from its place.
void sort_by_buckets(uint64_t* items, uint64_t* memory, size_t size) {
  const int bits = static_cast<int>(std::bit_width(size)) - 1;
  const auto bucket_of = [bits](uint64_t item) {
    return static_cast<size_t>(item >> 1 >> (63 - bits));
  };
  std::vector<uint32_t> places(size_t{1} << bits);
  for (size_t i = 0; i < size; ++i) ++places[bucket_of(items[i])];
  uint32_t next = 0;
  for (uint32_t& place : places) next += std::exchange(place, next);
  for (size_t i = 0; i < size; ++i) memory[places[bucket_of(items[i])]++] = items[i];
  for (size_t i = 0; i < size; ++i) {
    const uint64_t item = memory[i];
    size_t place = i;
    for (; place > 0 && items[place - 1] > item; --place) items[place] = items[place - 1];
    items[place] = item;
  }
}

// Least significant digit first. Returns which of the two has the result.
uint64_t* sort_by_digits(uint64_t* items, uint64_t* memory, size_t size) {
  std::array<std::array<size_t, kRadix>, kDigits> starts{};
  for (size_t i = 0; i < size; ++i) {
    for (int digit = 0; digit < kDigits; ++digit) {
      ++starts[static_cast<size_t>(digit)][digit_of(items[i], digit)];
    }
  }
  for (int digit = 0; digit < kDigits; ++digit) {
    auto& start = starts[static_cast<size_t>(digit)];
    size_t next = 0;
    for (size_t& place : start) next += std::exchange(place, next);
    for (size_t i = 0; i < size; ++i) memory[start[digit_of(items[i], digit)]++] = items[i];
    std::swap(items, memory);
  }
  return items;
}

}  // namespace

void philox_words(uint64_t seed, uint64_t counter, int64_t n, uint32_t* out) {
  const int64_t seed_state[2] = {static_cast<int64_t>(seed), static_cast<int64_t>(counter)};
  const RandomArgs args{seed_state, reinterpret_cast<float*>(out), n, n, 1, 1};
  kernel_function(current_isa(), Kernel::random_words)(&args, {0, 1}, nullptr);
}

// Items are (word << 32 | position); positions fit 32 bits up to 4 billion items, beyond which
// memory for them would be the first problem.
void permutation(uint64_t seed, uint64_t counter, int64_t n, int64_t* out) {
  if (n <= 0) return;
  const size_t size = static_cast<size_t>(n);
  const auto words = std::make_unique_for_overwrite<uint32_t[]>(size);
  const auto items = std::make_unique_for_overwrite<uint64_t[]>(size);
  const auto memory = std::make_unique_for_overwrite<uint64_t[]>(size);
  philox_words(seed, counter, n, words.get());
  for (size_t i = 0; i < size; ++i) items[i] = uint64_t{words[i]} << 32 | i;
  const uint64_t* sorted = items.get();
  if (size <= kMostInBuckets) {
    sort_by_buckets(items.get(), memory.get(), size);
  } else {
    sorted = sort_by_digits(items.get(), memory.get(), size);
  }
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<int64_t>(sorted[i] & 0xffffffffu);
}

}  // namespace handmill
