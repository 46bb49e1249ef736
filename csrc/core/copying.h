// Large copies.
#pragma once

#include <cstddef>
#include <cstdint>

namespace handmill {

/// Copies bytes, which may overlap; on all threads where that pays.
void copy_bytes(std::byte* to, const std::byte* from, int64_t bytes);

}  // namespace handmill
