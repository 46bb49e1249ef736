// How much memory plans hold in this process.
#pragma once

#include <cstdint>

namespace handmill {

/// The memory of all plans: descriptions, the instances that run them, packed copies of weights.
int64_t plan_bytes();

/// A part of plan_bytes(), as long as it lives.
class HeldBytes {
 public:
  HeldBytes() = default;
  explicit HeldBytes(int64_t bytes) { set(bytes); }
  ~HeldBytes() { set(0); }
  HeldBytes(const HeldBytes&) = delete;
  HeldBytes& operator=(const HeldBytes&) = delete;

  void set(int64_t bytes);
  int64_t get() const { return bytes_; }

 private:
  int64_t bytes_ = 0;
};

}  // namespace handmill
