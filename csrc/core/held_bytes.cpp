#include "core/held_bytes.h"

#include <atomic>

namespace handmill {
namespace {

std::atomic<int64_t> held{0};

}  // namespace

int64_t plan_bytes() { return held.load(std::memory_order_relaxed); }

void HeldBytes::set(int64_t bytes) {
  if (bytes != bytes_) held.fetch_add(bytes - bytes_, std::memory_order_relaxed);
  bytes_ = bytes;
}

}  // namespace handmill
