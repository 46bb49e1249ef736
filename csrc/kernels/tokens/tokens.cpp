// Tokens chosen from logits: temperature, the k likeliest, the share p of the likeliest, a draw.
//
// Weights are whole numbers, exp((logit - largest) / temperature) 2^32 without its fraction: sums
// of them are the same in any order, and below 2^63 for 2^31 tokens. What is kept are all logits
// above a threshold, and the first few that equal it: equal logits go to the lower token.
#include "kernels/lanes.h"
#include "kernels/range.h"
#include "kernels/reduce/row_argmax.h"
#include "kernels/tokens/args.h"
#include "simd/math.h"

namespace handmill::HM_ISA {
namespace {

constexpr float kLargest = 0x1p32f;

// Integers in the order of the floats; both zeros are equal.
HM_INLINE int32_t key_of(float x) {
  const int32_t bits = __builtin_bit_cast(int32_t, x + 0.0f);
  return bits ^ (static_cast<int32_t>(bits >> 31) & 0x7fffffff);
}

// What is kept of a row: logits whose key is above `above`, and of those whose key is equal the
// first `ties`.
struct Kept {
  int32_t above;
  int64_t ties;
};

// The smallest key t such that what measure adds up over all keys above t is at most `most`.
template <class F>
HM_INLINE int32_t threshold(F measured_above, int64_t most) {
  int64_t low = INT32_MIN, high = INT32_MAX;
  while (low < high) {
    const int64_t middle = low + ((high - low) >> 1);
    if (measured_above(static_cast<int32_t>(middle)) <= most) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return static_cast<int32_t>(low);
}

HM_INLINE int64_t count_above(const float* x, int64_t V, int32_t key) {
  int64_t count = 0;
  for (int64_t v = 0; v < V; ++v) count += key_of(x[v]) > key ? 1 : 0;
  return count;
}

HM_INLINE int64_t weight_above(const float* x, const int64_t* w, int64_t V, int32_t key) {
  int64_t sum = 0;
  for (int64_t v = 0; v < V; ++v) sum += key_of(x[v]) > key ? w[v] : 0;
  return sum;
}

// The k likeliest tokens.
HM_INLINE Kept likeliest(const float* x, int64_t V, int64_t k) {
  if (k >= V) return {INT32_MIN, V};
  const int32_t key = threshold([&](int32_t t) { return count_above(x, V, t); }, k - 1);
  return {key, k - count_above(x, V, key)};
}

// The likeliest tokens whose weight before them is at most `share`.
HM_INLINE Kept share_of(const float* x, const int64_t* w, int64_t V, int64_t share) {
  const int32_t key = threshold([&](int32_t t) { return weight_above(x, w, V, t); }, share);
  int64_t before = weight_above(x, w, V, key), ties = 0;
  for (int64_t v = 0; v < V && before <= share; ++v) {
    if (key_of(x[v]) != key) continue;
    ++ties;
    before += w[v];
  }
  return {key, ties};
}

HM_INLINE int32_t drawn(const float* x, const int64_t* w, int64_t V, Kept kept, double u) {
  int64_t total = 0, ties = kept.ties;
  for (int64_t v = 0; v < V; ++v) {
    const int32_t key = key_of(x[v]);
    total += key > kept.above || (key == kept.above && ties-- > 0) ? w[v] : 0;
  }
  const int64_t wanted = static_cast<int64_t>(u * static_cast<double>(total));
  int64_t sum = 0, last = 0;
  ties = kept.ties;
  for (int64_t v = 0; v < V; ++v) {
    const int32_t key = key_of(x[v]);
    if (!(key > kept.above || (key == kept.above && ties-- > 0)) || w[v] == 0) continue;
    sum += w[v];
    last = v;
    if (sum > wanted) break;
  }
  return static_cast<int32_t>(last);
}

// w[v] = the weights of V logits, none above `largest`; returns their sum.
HM_INLINE int64_t weigh(const float* x, int64_t V, float largest, float temperature, int64_t* w) {
  const Vec shift = Vec::broadcast(largest), divisor = Vec::broadcast(temperature);
  int64_t all = 0;
  for_each_vector(0, V, [&](int64_t v, auto lanes) {
    float weights[Vec::width];
    const Vec e = exp((lanes.load(x + v) - shift) / divisor) * Vec::broadcast(kLargest);
    e.store(weights);
    const int64_t count = V - v < Vec::width ? V - v : int64_t{Vec::width};
    for (int64_t i = 0; i < count; ++i) {
      w[v + i] = static_cast<int64_t>(weights[i]);
      all += w[v + i];
    }
  });
  return all;
}

// Of many tokens few can be among the k likeliest: a row is cut into parts, and k parts have a
// logit as large as the k-th of the largest of each.
constexpr int64_t kParts = 1024;
constexpr int64_t kMostOfFew = 256;  // k

struct Few {
  int64_t* weights;
  float* logits;
  int32_t* tokens;
  int64_t count;
};

// The tokens that may be among the k likeliest, in their order; none if they are more than half.
HM_INLINE Few few_likeliest(const float* x, int64_t V, int64_t k, void* scratch) {
  Few few{};
  const int64_t most = V / 2;
  few.weights = static_cast<int64_t*>(scratch);
  few.logits = reinterpret_cast<float*>(few.weights + most);
  few.tokens = reinterpret_cast<int32_t*>(few.logits + most);
  const float lowest = -__builtin_inff();
  float largest[kParts];
  const int64_t size = V / kParts;
  for (int64_t part = 0; part < kParts; ++part) {
    Vec best = Vec::broadcast(lowest);
    for_each_vector(
        part * size, part + 1 < kParts ? (part + 1) * size : V,
        [&](int64_t v, auto lanes) { best = at_least(best, lanes.load_or(x + v, lowest)); });
    largest[part] = reduce_max(best);
  }
  const int32_t key = threshold([&](int32_t t) { return count_above(largest, kParts, t); }, k - 1);
  const float bound =
      __builtin_bit_cast(float, key ^ (static_cast<int32_t>(key >> 31) & 0x7fffffff));
  bool fits = true;
  for_each_vector(0, V, [&](int64_t v, auto lanes) {
    if (!fits || !any(lanes.load_or(x + v, lowest) >= Vec::broadcast(bound))) return;
    const int64_t end = V - v < Vec::width ? V : v + Vec::width;
    for (int64_t i = v; i < end; ++i) {
      if (!(x[i] >= bound)) continue;
      if (few.count == most) {
        fits = false;
        return;
      }
      few.logits[few.count] = x[i];
      few.tokens[few.count++] = static_cast<int32_t>(i);
    }
  });
  if (!fits) few.count = 0;
  return few;
}

HM_INLINE int32_t choose(const ChooseTokenArgs& a, int64_t b, void* scratch) {
  const float* x = a.logits + b * a.V;
  const float temperature = a.settings[0], k = a.settings[1], p = a.settings[2];
  const int64_t best = row_arg_extreme(x, a.V, false);
  const float largest = x[best];
  if (!(largest - largest == 0.0f)) return -1;  // NaN, or infinite
  if (k <= 1.0f) return static_cast<int32_t>(best);
  const double u = static_cast<double>(a.u[2 * b]) + static_cast<double>(a.u[2 * b + 1]) * 0x1p-24;
  const int64_t count = k < static_cast<float>(a.V) ? static_cast<int64_t>(k) : a.V;
  if (p >= 1.0f && count <= kMostOfFew && a.V >= 4 * kParts) {
    const Few few = few_likeliest(x, a.V, count, scratch);
    if (few.count > 0) {
      weigh(few.logits, few.count, largest, temperature, few.weights);
      const Kept kept = likeliest(few.logits, few.count, count);
      return few.tokens[drawn(few.logits, few.weights, few.count, kept, u)];
    }
  }
  int64_t* const w = static_cast<int64_t*>(scratch);
  const int64_t all = weigh(x, a.V, largest, temperature, w);
  Kept kept = likeliest(x, a.V, count);
  if (p < 1.0f) {
    const double share = static_cast<double>(p) * static_cast<double>(all);
    const Kept other = share_of(x, w, a.V, static_cast<int64_t>(share));
    if (other.above > kept.above) {
      kept = other;
    } else if (other.above == kept.above && other.ties < kept.ties) {
      kept.ties = other.ties;
    }
  }
  return drawn(x, w, a.V, kept, u);
}

}  // namespace

void choose_token(const ChooseTokenArgs& a, Range blocks, void* scratch) {
  for (int64_t b = blocks.begin; b < blocks.end; ++b) {
    a.y[b] = choose(a, b, scratch);
  }
}

}  // namespace handmill::HM_ISA
