// The contents of Variables: what outlives a run.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "core/buffer.h"
#include "core/dtype.h"
#include "core/packed.h"

namespace handmill {

/// An array with a version number, which each write raises. Its memory never moves.
class State {
 public:
  /// Zeros.
  State(std::vector<int64_t> shape, Dtype dtype);

  const std::vector<int64_t>& shape() const { return shape_; }
  Dtype dtype() const { return dtype_; }
  int64_t bytes() const { return bytes_; }
  std::byte* data() const { return storage_->data(); }
  /// For views that outlive the State.
  const std::shared_ptr<Buffer>& storage() const { return storage_; }

  uint64_t version() const { return version_.load(std::memory_order_acquire); }
  void bump() { version_.fetch_add(1, std::memory_order_acq_rel); }

  PackedCopies& packed() { return packed_; }

 private:
  std::vector<int64_t> shape_;
  Dtype dtype_;
  int64_t bytes_;
  std::shared_ptr<Buffer> storage_;
  std::atomic<uint64_t> version_{0};
  PackedCopies packed_;
};

}  // namespace handmill
