#include "core/state.h"

#include <utility>

namespace handmill {

State::State(std::vector<int64_t> shape, Dtype dtype)
    : shape_(std::move(shape)),
      dtype_(dtype),
      bytes_(array_bytes(shape_, dtype)),
      storage_(std::make_shared<Buffer>(bytes_, /*zero=*/true)) {}

}  // namespace handmill
