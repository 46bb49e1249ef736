// Lifetimes to offsets: where each buffer of a program lies in one arena.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace handmill {

struct Lifetime {
  int64_t bytes;
  int first, last;  // the nodes between which the buffer holds something, both included
  int from, to;     // the same, and further where others may still, or already, run beside them
};

struct MemoryPlan {
  std::vector<int64_t> offsets;  // multiples of 64
  int64_t total = 0;             // a multiple of 64
  int64_t lower_bound = 0;       // the most bytes alive at one node; total is at least that
};

/// Assigns offsets such that buffers do not overlap whose spans from..to do. Pairs (out, in) offer
/// that `out` may take the memory of `in`; they are taken up where `in` ends at the node at which
/// `out` begins, both have the same size, and nobody else has taken it. Greedy in several orders,
/// the best kept; quadratic in the number of buffers.
MemoryPlan plan_memory(std::span<const Lifetime> buffers,
                       std::span<const std::pair<int, int>> alias);

}  // namespace handmill
