// Feeds in Python, and runs on them.
#pragma once

#include "bindings/call.h"
#include "bindings/pinned.h"
#include "core/feed.h"

namespace handmill {

/// A feed and the arrays that it points into.
struct FeedHolder {
  Feed feed;
  Pinned arrays, members, results;
  bool in_use = false;
};

/// Runs the plan on the next batches, without the GIL. Throws std::invalid_argument if the feed is
/// in use or does not fit.
FedResult run_fed(const BoundPlan& bound, FeedHolder& holder, int64_t max_steps, double seconds);

}  // namespace handmill
