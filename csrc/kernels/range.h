// Half-open range of blocks: what every kernel is asked to compute.
#pragma once

#include <cstdint>

namespace handmill {

struct Range {
  int64_t begin, end;
};

}  // namespace handmill
