// Sizes and names of dtypes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kernels/types.h"

namespace handmill {

inline constexpr int kDtypeCount = 8;

int64_t dtype_bytes(Dtype dtype);
std::string_view dtype_name(Dtype dtype);

/// The dtype with that code. Throws std::invalid_argument if there is none.
Dtype dtype_of_code(int64_t code);

/// The bytes of an array. Throws std::invalid_argument if they do not fit 63 bits.
int64_t array_bytes(std::span<const int64_t> shape, Dtype dtype);

/// "(2, 3)", as Python writes a shape.
std::string shape_text(std::span<const int64_t> shape);

}  // namespace handmill
