// Data for Plan::run_fed.
#pragma once

#include <cstdint>
#include <vector>

#include "core/dtype.h"

namespace handmill {

/// Rows of several arrays, gathered in a given order; or rows that are composed: of coalition after
/// coalition, each with every row of the sources (kernels/cast/args.h). The owner keeps the arrays
/// alive.
struct Feed {
  struct Source {
    const std::byte* data;  // C-contiguous rows
    Dtype dtype;
    std::vector<int64_t> row_shape;
    const std::byte* row = nullptr;   // where rows are composed: whose entries coalitions have
    const int32_t* player = nullptr;  // and to whom each entry belongs
  };
  struct Result {
    std::byte* data;
    int64_t rows;
    Dtype dtype;
    std::vector<int64_t> row_shape;
  };

  std::vector<Source> sources;
  int64_t source_rows = 0;     // of every source
  std::vector<int64_t> order;  // positions in the sources
  bool has_order = false;
  bool composes = false;
  const uint8_t* members = nullptr;  // (coalitions, players)
  int64_t coalitions = 0, players = 0;
  // Where outputs of the program go, from that row of the feed on; none: nowhere.
  std::vector<Result> results;
  int64_t first_result = 0;
  int64_t position = 0;  // rows consumed

  int64_t rows() const {
    if (composes) return coalitions * source_rows;
    return has_order ? static_cast<int64_t>(order.size()) : source_rows;
  }
};

}  // namespace handmill
