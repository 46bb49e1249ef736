#include "core/state.h"

#include <cstring>
#include <utility>

namespace handmill {
namespace {

std::atomic<uint64_t> epoch{0};

}  // namespace

State::State(std::vector<int64_t> shape, Dtype dtype)
    : shape_(std::move(shape)),
      dtype_(dtype),
      bytes_(array_bytes(shape_, dtype)),
      storage_(std::make_shared<Buffer>(bytes_, /*zero=*/true)),
      data_(storage_->data()) {}

void pack_states(std::span<State* const> states) {
  int64_t bytes = 0;
  for (const State* state : states) bytes += align_up(state->bytes_);
  auto storage = std::make_shared<Buffer>(bytes, /*zero=*/true);
  std::byte* next = storage->data();
  for (State* state : states) {
    std::memcpy(next, state->data_, static_cast<size_t>(state->bytes_));
    state->data_ = next;
    state->storage_ = storage;
    next += align_up(state->bytes_);
  }
  epoch.fetch_add(1, std::memory_order_acq_rel);
}

uint64_t pack_epoch() { return epoch.load(std::memory_order_acquire); }

}  // namespace handmill
