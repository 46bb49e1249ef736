#include "core/dtype.h"

#include "core/check.h"

namespace handmill {
namespace {

struct DtypeRecord {
  std::string_view name;
  int64_t bytes;
};

constexpr DtypeRecord kDtypes[kDtypeCount] = {
    {"float32", 4}, {"float64", 8}, {"bfloat16", 2}, {"int8", 1},
    {"uint8", 1},   {"int32", 4},   {"int64", 8},    {"bool", 1},
};

}  // namespace

int64_t dtype_bytes(Dtype dtype) { return kDtypes[static_cast<int>(dtype)].bytes; }
std::string_view dtype_name(Dtype dtype) { return kDtypes[static_cast<int>(dtype)].name; }

Dtype dtype_of_code(int64_t code) {
  require(code >= 0 && code < kDtypeCount, "there is no dtype with code ", code);
  return static_cast<Dtype>(code);
}

int64_t array_bytes(std::span<const int64_t> shape, Dtype dtype) {
  int64_t bytes = dtype_bytes(dtype);
  bool empty = false, overflow = false;
  for (int64_t dim : shape) {
    if (dim == 0)
      empty = true;
    else
      overflow = __builtin_mul_overflow(bytes, dim, &bytes) || overflow;
  }
  // Also where another dimension is 0, as NumPy: strides and parts of the shape must be numbers.
  require(!overflow, "an array of shape ", shape_text(shape), " is too large");
  return empty ? 0 : bytes;
}

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  }
  return text + (shape.size() == 1 ? ",)" : ")");
}

}  // namespace handmill
