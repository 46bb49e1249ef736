#include "core/memory.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/buffer.h"
#include "core/check.h"

namespace handmill {
namespace {

using Order = std::vector<int>;

// A plan that takes no more than this part of the least memory too much is taken: each other order
// costs as much again as all of the first (0.25 ms for the 700 launches of a training step).
constexpr int64_t kNearEnough = 64;

// Buffers that follow one another in the same memory, merged into one.
struct Groups {
  std::vector<int> group_of;  // of each buffer; -1 if it is empty
  std::vector<Lifetime> lifetimes;
};

Groups merge(std::span<const Lifetime> buffers, std::span<const std::pair<int, int>> alias) {
  const size_t n = buffers.size();
  std::vector<int> next(n, -1), previous(n, -1);
  for (auto [out, in] : alias) {
    const auto o = static_cast<size_t>(out), i = static_cast<size_t>(in);
    if (out != in && previous[o] < 0 && next[i] < 0 && buffers[o].bytes == buffers[i].bytes &&
        buffers[i].last == buffers[o].first && buffers[i].first < buffers[o].first) {
      next[i] = out;
      previous[o] = in;
    }
  }
  Groups groups;
  groups.group_of.assign(n, -1);
  for (size_t head = 0; head < n; ++head) {
    if (previous[head] >= 0 || buffers[head].bytes == 0) continue;
    Lifetime merged = buffers[head];
    merged.bytes = align_up(merged.bytes);
    for (int b = static_cast<int>(head); b >= 0; b = next[static_cast<size_t>(b)]) {
      groups.group_of[static_cast<size_t>(b)] = static_cast<int>(groups.lifetimes.size());
      merged.from = std::min(merged.from, buffers[static_cast<size_t>(b)].from);
      merged.to = std::max(merged.to, buffers[static_cast<size_t>(b)].to);
    }
    groups.lifetimes.push_back(merged);
  }
  return groups;
}

int64_t most_alive(std::span<const Lifetime> buffers) {
  std::vector<std::pair<int, int64_t>> events;  // at node: bytes more or less
  events.reserve(2 * buffers.size());
  for (const Lifetime& b : buffers) {
    events.emplace_back(b.from, b.bytes);
    events.emplace_back(b.to + 1, -b.bytes);
  }
  std::sort(events.begin(), events.end());  // at one node, those that end come first
  int64_t alive = 0, most = 0;
  for (auto [node, bytes] : events) most = std::max(most, alive += bytes);
  return most;
}

struct Placed {
  int64_t begin, end;
  int from, to;
};

// Puts each buffer, in this order, into the smallest gap that its contemporaries leave.
// Returns the total, or gives up once it reaches `limit`.
int64_t place(std::span<const Lifetime> buffers, const Order& order, int64_t limit,
              std::vector<int64_t>& offsets) {
  std::vector<Placed> placed;  // by rising offset; all that the inner loop reads lies together
  placed.reserve(order.size());
  int64_t total = 0;
  for (int b : order) {
    const Lifetime& buffer = buffers[static_cast<size_t>(b)];
    int64_t end = 0, best = -1, best_gap = std::numeric_limits<int64_t>::max();
    for (const Placed& other : placed) {
      if (other.from > buffer.to || other.to < buffer.from) continue;
      const int64_t gap = other.begin - end;
      if (gap >= buffer.bytes && gap < best_gap) {
        best = end;
        best_gap = gap;
      }
      end = std::max(end, other.end);
    }
    const int64_t offset = best >= 0 ? best : end;
    total = std::max(total, offset + buffer.bytes);
    if (total >= limit) return limit;
    offsets[static_cast<size_t>(b)] = offset;
    const auto after =
        std::upper_bound(placed.begin(), placed.end(), offset,
                         [](int64_t value, const Placed& p) { return value < p.begin; });
    placed.insert(after, {offset, offset + buffer.bytes, buffer.from, buffer.to});
  }
  return total;
}

template <class Key>
Order sorted(std::span<const Lifetime> buffers, Key key) {
  Order order(buffers.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return key(buffers[static_cast<size_t>(a)]) < key(buffers[static_cast<size_t>(b)]);
  });
  return order;
}

}  // namespace

MemoryPlan plan_memory(std::span<const Lifetime> buffers,
                       std::span<const std::pair<int, int>> alias) {
  const Groups groups = merge(buffers, alias);
  const std::span<const Lifetime> merged = groups.lifetimes;
  MemoryPlan plan;
  plan.lower_bound = most_alive(merged);
  std::vector<int64_t> offsets(merged.size()), best(merged.size());
  plan.total = std::numeric_limits<int64_t>::max();
  const auto attempt = [&](const Order& order) {
    const int64_t total = place(merged, order, plan.total, offsets);
    if (total < plan.total) {
      plan.total = total;
      best = offsets;
    }
    return plan.total - plan.lower_bound <= plan.lower_bound / kNearEnough;
  };
  using Pair = std::pair<int64_t, int64_t>;
  // Order of birth first: often enough for chains, and it keeps neighbours in time close.
  attempt(sorted(merged, [](const Lifetime& b) { return Pair{b.from, -b.bytes}; })) ||
      attempt(sorted(merged, [](const Lifetime& b) { return Pair{-b.bytes, b.from}; })) ||
      attempt(sorted(merged, [](const Lifetime& b) { return Pair{b.from - b.to, -b.bytes}; })) ||
      attempt(sorted(
          merged, [](const Lifetime& b) { return Pair{-b.bytes * (b.to - b.from + 1), b.from}; }));
  plan.offsets.resize(buffers.size());
  for (size_t i = 0; i < buffers.size(); ++i) {
    const int group = groups.group_of[i];
    plan.offsets[i] = group < 0 ? 0 : best[static_cast<size_t>(group)];
  }
  return plan;
}

}  // namespace handmill
