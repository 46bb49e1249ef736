// The contents of Variables: what outlives a run.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "core/buffer.h"
#include "core/dtype.h"
#include "core/packed.h"

namespace handmill {

/// An array with a version number, which each write raises. Its memory may move (pack_states);
/// whoever holds the storage keeps the old memory valid.
class State {
 public:
  /// Zeros.
  State(std::vector<int64_t> shape, Dtype dtype);

  const std::vector<int64_t>& shape() const { return shape_; }
  Dtype dtype() const { return dtype_; }
  int64_t bytes() const { return bytes_; }
  std::byte* data() const { return data_; }
  const std::shared_ptr<Buffer>& storage() const { return storage_; }

  uint64_t version() const { return version_.load(std::memory_order_acquire); }
  void bump() { version_.fetch_add(1, std::memory_order_acq_rel); }

  PackedCopies& packed() { return packed_; }

 private:
  friend void pack_states(std::span<State* const> states);

  std::vector<int64_t> shape_;
  Dtype dtype_;
  int64_t bytes_;
  std::shared_ptr<Buffer> storage_;
  std::byte* data_;
  std::atomic<uint64_t> version_{0};
  PackedCopies packed_;
};

/// Moves the contents into one storage, in order, each at a multiple of 64 bytes, zeros between.
/// Contents and versions stay. No plan that writes one of the states may be running.
void pack_states(std::span<State* const> states);

/// Grows each time that states have moved.
uint64_t pack_epoch();

}  // namespace handmill
