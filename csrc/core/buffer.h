// Aligned memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace handmill {

inline constexpr int64_t kAlignment = 64;

constexpr int64_t align_up(int64_t bytes, int64_t alignment = kAlignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

/// 64-byte aligned memory; large blocks ask for huge pages. Throws std::bad_alloc.
class Buffer {
 public:
  Buffer() = default;
  /// Memory of any content, or of zeros.
  explicit Buffer(int64_t bytes, bool zero = false);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  /// Never null in a Buffer made with a size, even zero.
  std::byte* data() const { return data_; }
  int64_t size() const { return size_; }
  /// What it takes: size() rounded up to whole lines, or to huge pages.
  int64_t taken() const;
  /// Makes all of it zeros. Large ones give their pages back until they are touched again.
  void clear();

 private:
  std::byte* data_ = nullptr;
  int64_t size_ = 0;
  bool mapped_ = false;  // pages of its own, not memory of the allocator
};

/// Gives memory that was freed back to the system, as far as the allocator has kept it.
void give_back_free_memory();

}  // namespace handmill
