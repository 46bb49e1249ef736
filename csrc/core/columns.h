// Tables that lie column by column, turned into rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/dtype.h"

namespace handmill {

struct Column {
  const std::byte* data;
  Dtype dtype;
};

/// Writes the elements of columns, each converted to `dtype`, as rows that follow one another. On
/// all threads where that pays. Throws std::bad_alloc.
void interleave(std::span<const Column> columns, int64_t rows, Dtype dtype, std::byte* y);

}  // namespace handmill
