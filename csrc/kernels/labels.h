// Integers stored as int32, int64, uint8, int8, bool or float32: class labels and row indices.
#pragma once

#include "kernels/types.h"
#include "simd/simd.h"

namespace handmill::HM_ISA {

// labels[i]; INT64_MIN where a float32 is not an integer of at most 2^24.
HM_INLINE int64_t label_at(const void* labels, Dtype type, int64_t i) {
  switch (type) {
    case Dtype::int32:
      return static_cast<const int32_t*>(labels)[i];
    case Dtype::int64:
      return static_cast<const int64_t*>(labels)[i];
    case Dtype::int8:
      return static_cast<const int8_t*>(labels)[i];
    case Dtype::uint8:
    case Dtype::bool_:
      return static_cast<const uint8_t*>(labels)[i];
    default: {
      const float label = static_cast<const float*>(labels)[i];
      const bool in_range = label >= -16777216.0f && label <= 16777216.0f;
      const int64_t integer = in_range ? static_cast<int64_t>(label) : 0;
      return in_range && static_cast<float>(integer) == label ? integer : INT64_MIN;
    }
  }
}

}  // namespace handmill::HM_ISA
