// Training data for Plan::run_fed.
#pragma once

#include <cstdint>
#include <vector>

#include "core/dtype.h"

namespace handmill {

/// Rows of several arrays, gathered in a given order. The owner keeps the arrays alive.
struct Feed {
  struct Source {
    const std::byte* data;  // C-contiguous rows
    Dtype dtype;
    std::vector<int64_t> row_shape;
  };

  std::vector<Source> sources;
  int64_t source_rows = 0;     // of every source
  std::vector<int64_t> order;  // positions in the sources
  bool has_order = false;
  int64_t position = 0;  // rows consumed

  int64_t rows() const { return has_order ? static_cast<int64_t>(order.size()) : source_rows; }
};

}  // namespace handmill
