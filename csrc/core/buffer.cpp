#include "core/buffer.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace handmill {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;

// Rounded up to whole huge pages where it is large (a step of 12288-128-10: 1.41 -> 1.26 ms).
int64_t alignment_of(int64_t bytes) { return bytes >= kHugePage / 2 ? kHugePage : kAlignment; }

int64_t rounded_up(int64_t bytes) {
  return align_up(std::max<int64_t>(bytes, 1), alignment_of(bytes));
}

}  // namespace

Buffer::Buffer(int64_t bytes, bool zero) : size_(bytes) {
  if (bytes < 0 || bytes > std::numeric_limits<int64_t>::max() - kHugePage) throw std::bad_alloc();
  const auto alignment = static_cast<size_t>(alignment_of(bytes));
  const auto rounded = static_cast<size_t>(rounded_up(bytes));
  data_ = static_cast<std::byte*>(std::aligned_alloc(alignment, rounded));
  if (data_ == nullptr) throw std::bad_alloc();
#if defined(__linux__)
  if (alignment == kHugePage) madvise(data_, rounded, MADV_HUGEPAGE);
#endif
  if (zero) std::memset(data_, 0, rounded);
}

int64_t Buffer::taken() const { return data_ == nullptr ? 0 : rounded_up(size_); }

void give_back_free_memory() {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

Buffer::~Buffer() { std::free(data_); }

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace handmill
