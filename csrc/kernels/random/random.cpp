// Random numbers by Philox4x32-10 (philox.h). Element e takes word e % 4 of the block whose counter
// is (e / 4, call) under the key `seed`, so the numbers depend on neither threads nor level.
#include "kernels/lanes.h"
#include "kernels/random/args.h"
#include "kernels/random/philox.h"
#include "kernels/range.h"
#include "simd/math.h"

namespace handmill::HM_ISA {
namespace {

// use(i, word bits as Vec, lanes) for elements i of one seed state.
template <class F, class G>
HM_INLINE void for_each_word(const int64_t* seed_state, Range items, F change, G use) {
  const Stream stream = stream_of(seed_state);
  float words[kPhiloxWords];
  for (int64_t begin = items.begin; begin < items.end; begin += kPhiloxWords) {
    make_words(stream, static_cast<uint64_t>(begin) / 4, change, words);
    const int64_t end = begin + kPhiloxWords < items.end ? begin + kPhiloxWords : items.end;
    for_each_vector(begin, end,
                    [&](int64_t i, auto lanes) { use(i, Vec::load(words + (i - begin)), lanes); });
  }
}

// make(seed state, items, y) for what lies of each row in these blocks.
template <class F>
HM_INLINE void for_each_row(const RandomArgs& a, Range blocks, F make) {
  if (a.rows == 1) {
    make(a.seed_state, items_of(blocks, a.per_block, a.size), a.y);
    return;
  }
  if (a.size <= a.per_block) {
    const Range rows = items_of(blocks, a.rows_per_block, a.rows);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      make(a.seed_state + 2 * row, {0, a.size}, a.y + row * a.size);
    }
    return;
  }
  const int64_t per_row = (a.size + a.per_block - 1) / a.per_block;
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const int64_t row = block / per_row, part = block % per_row;
    make(a.seed_state + 2 * row, items_of({part, part + 1}, a.per_block, a.size),
         a.y + row * a.size);
  }
}

// One block: for rows, of which each has another key.
struct OneBlock {
  uint32_t w[4];
};

HM_INLINE OneBlock philox_block(OneBlock counter, uint32_t k0, uint32_t k1) {
  uint32_t* c = counter.w;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c[0], p1 = uint64_t{0xCD9E8D57u} * c[2];
    c[0] = static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0;
    c[1] = static_cast<uint32_t>(p1);
    c[2] = static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1;
    c[3] = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return counter;
}

constexpr float kTwoToMinus24 = 1.0f / 16777216.0f;

HM_INLINE Vec upper_24_bits(VecI word) { return to_float(shift_right_logical<8>(word)); }

// Two independent normal numbers by Box and Muller's transform of two words.
HM_INLINE void box_muller(VecI& w0, VecI& w1) {
  const Vec scale = Vec::broadcast(kTwoToMinus24);
  const Vec u = (upper_24_bits(w0) + Vec::broadcast(1.0f)) * scale;
  const Vec radius = sqrt(Vec::broadcast(-2.0f) * log(u));
  // The angle is 2 pi t. Whole quarter turns come off t, where that is exact.
  const Vec t = upper_24_bits(w1) * (scale * Vec::broadcast(4.0f));
  const Vec quarter = round_nearest(t);
  Vec sine, cosine;
  sin_cos((t - quarter) * Vec::broadcast(1.57079633f), &sine, &cosine);
  const VecI q = to_int(quarter), one = VecI::broadcast(1), sign = VecI::broadcast(INT32_MIN);
  const Mask is_odd = (q & one) == one;
  const VecI x = as_int(select(is_odd, sine, cosine)) ^ (shift_left<30>(q + one) & sign);
  const VecI y = as_int(select(is_odd, cosine, sine)) ^ (shift_left<30>(q) & sign);
  w0 = as_int(radius * as_float(x));
  w1 = as_int(radius * as_float(y));
}

}  // namespace

// The bits of the words.
void random_words(const RandomArgs& a, Range blocks, void*) {
  const auto same = [](Words block) { return block; };
  for_each_word(a.seed_state, items_of(blocks, a.per_block, a.size), same,
                [&](int64_t i, Vec word, auto lanes) { lanes.store(word, a.y + i); });
}

// Uniform in [0, 1): multiples of 2^-24.
void random_uniform(const RandomArgs& a, Range blocks, void*) {
  const Vec scale = Vec::broadcast(kTwoToMinus24);
  const auto same = [](Words block) { return block; };
  for_each_row(a, blocks, [&](const int64_t* seed_state, Range items, float* y) {
    if (a.rows > 1 && a.size <= 4) {  // vectors of blocks would make 128 words for it
      const Stream s = stream_of(seed_state);
      const OneBlock block = philox_block({{0, 0, s.call[0], s.call[1]}}, s.seed[0], s.seed[1]);
      for (int64_t i = 0; i < a.size; ++i) {
        y[i] = static_cast<float>(block.w[i] >> 8) * kTwoToMinus24;
      }
      return;
    }
    for_each_word(seed_state, items, same, [&](int64_t i, Vec word, auto lanes) {
      lanes.store(upper_24_bits(as_int(word)) * scale, y + i);
    });
  });
}

// Normal, mean 0, deviation 1: elements 2 i and 2 i + 1 are radius * (cos, sin) of words 2 i, 2 i
// + 1.
void random_normal(const RandomArgs& a, Range blocks, void*) {
  const auto change = [](Words block) {
    box_muller(block.w[0], block.w[1]);
    box_muller(block.w[2], block.w[3]);
    return block;
  };
  for_each_row(a, blocks, [&](const int64_t* seed_state, Range items, float* y) {
    for_each_word(seed_state, items, change,
                  [&](int64_t i, Vec number, auto lanes) { lanes.store(number, y + i); });
  });
}

void dropout(const DropoutArgs& a, Range blocks, void*) {
  const Vec scale = Vec::broadcast(a.scale);
  // Comparisons are signed; adding 2^31 to both sides keeps the order of unsigned numbers.
  const VecI flip = VecI::broadcast(INT32_MIN), threshold = splat(a.threshold) ^ flip;
  const auto same = [](Words block) { return block; };
  for_each_word(a.seed_state, items_of(blocks, a.per_block, a.size), same,
                [&](int64_t i, Vec word, auto lanes) {
                  const Mask dropped = (as_int(word) ^ flip) < threshold;
                  const Vec kept = lanes.load(a.x + i) * scale;
                  const Vec y = select(dropped, Vec::zero(), kept);
                  lanes.store(a.drop_all ? Vec::zero() : y, a.y + i);
                });
}

// Of each row (seed', 0): two words of the block whose counter is (row, call, view). The highest
// bit of the counter, which no call reaches, keeps these blocks apart from those that draws use.
void row_seeds(const RowSeedsArgs& a, Range blocks, void*) {
  const Stream s = stream_of(a.seed_state);
  const Range rows = items_of(blocks, a.rows_per_block, a.rows);
  for (int64_t i = rows.begin; i < rows.end; ++i) {
    const uint64_t row = static_cast<uint64_t>(a.row_numbers[i]);
    const OneBlock counter{{static_cast<uint32_t>(row), static_cast<uint32_t>(row >> 32), s.call[0],
                            0x80000000u | a.view}};
    const OneBlock block = philox_block(counter, s.seed[0], s.seed[1]);
    a.y[2 * i] = static_cast<int64_t>(uint64_t{block.w[1] & 0x7fffffffu} << 32 | block.w[0]);
    a.y[2 * i + 1] = 0;
  }
}

// (seed, call) -> (seed, call + 1)
void advance_seed(const AdvanceSeedArgs& a, Range, void*) {
  a.y[0] = a.seed_state[0];
  a.y[1] = static_cast<int64_t>(static_cast<uint64_t>(a.seed_state[1]) + 1);
}

}  // namespace handmill::HM_ISA
