// Loops and choices of a plan, and the way through its segments.
#pragma once

#include <cstdint>
#include <vector>

#include "core/instance.h"
#include "core/lower/builder.h"
#include "core/parallel.h"
#include "core/plan.h"

namespace handmill {

/// The number of steps of a scan.
int64_t length_of(const NodeView& scan);

struct Plan::FlowPlan {
  struct Carry {
    Location before{}, buffers[2] = {};
    int in, out, after;  // slots
    int row;             // position in ys, or -1
    int64_t bytes;
  };
  struct Rows {
    Location whole;
    int slot;
    int64_t stride;
  };

  Flow::Kind kind;
  int depth;
  int64_t length;  // the most steps; of a scan: their number
  bool reverse;
  int begin = -1, end = -1;     // segments
  std::vector<int> branches{};  // segments
  Location decides{};
  std::vector<Carry> carries{};
  std::vector<Rows> xs{}, ys{};
};

/// Goes through the segments of a plan in the order in which they run. Every thread of a region has
/// one, and all of them go the same way: what they decide on was written before a barrier, and is
/// not overwritten before the flow ends (core/lower/layout.cpp: extend).
class Plan::Cursor {
 public:
  Cursor(const Plan& plan, Instance& instance, const Worker& worker)
      : plan_(plan), instance_(instance), worker_(worker) {}

  /// The next segment that has steps, null at the end.
  const Segment* next() {
    const int count = static_cast<int>(plan_.segments_.size());
    while (at_ < count) {
      const Segment& segment = plan_.segments_[static_cast<size_t>(at_)];
      if (segment.control == Control::none) {
        ++at_;
        return &segment;
      }
      follow(segment);
    }
    return nullptr;
  }

 private:
  void follow(const Segment& segment);
  const std::byte* address(const Location& at) const {
    return instance_.bases[static_cast<size_t>(at.slot)] + at.offset;
  }

  const Plan& plan_;
  Instance& instance_;
  const Worker& worker_;
  int at_ = 0;
  int64_t steps_[kMostDeep] = {};  // of the loop at each depth
};

}  // namespace handmill
