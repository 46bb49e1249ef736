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

#if defined(__linux__)

// Whole huge pages of their own, which the system fills with zeros when they are first touched: a
// pass over them less for variables whose content comes from a file. Null if there is no room.
std::byte* zero_pages(size_t bytes) {
  constexpr auto kAlign = static_cast<size_t>(kHugePage);
  void* found = mmap(nullptr, bytes + kAlign, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                     /*fd=*/-1, /*offset=*/0);
  if (found == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(found);
  const size_t before = -reinterpret_cast<uintptr_t>(begin) % kAlign;
  if (before != 0) munmap(begin, before);
  munmap(begin + before + bytes, kAlign - before);
  return begin + before;
}

#endif

}  // namespace

Buffer::Buffer(int64_t bytes, bool zero) : size_(bytes) {
  if (bytes < 0 || bytes > std::numeric_limits<int64_t>::max() - kHugePage) throw std::bad_alloc();
  const auto alignment = static_cast<size_t>(alignment_of(bytes));
  const auto rounded = static_cast<size_t>(rounded_up(bytes));
#if defined(__linux__)
  mapped_ = zero && alignment == static_cast<size_t>(kHugePage);
  if (mapped_) data_ = zero_pages(rounded);
#endif
  if (!mapped_) data_ = static_cast<std::byte*>(std::aligned_alloc(alignment, rounded));
  if (data_ == nullptr) throw std::bad_alloc();
#if defined(__linux__)
  if (alignment == static_cast<size_t>(kHugePage)) madvise(data_, rounded, MADV_HUGEPAGE);
#endif
  if (zero && !mapped_) std::memset(data_, 0, rounded);
}

void Buffer::clear() {
  const auto rounded = static_cast<size_t>(rounded_up(size_));
#if defined(__linux__)
  if (mapped_ && madvise(data_, rounded, MADV_DONTNEED) == 0) return;
#endif
  std::memset(data_, 0, rounded);
}

int64_t Buffer::taken() const { return data_ == nullptr ? 0 : rounded_up(size_); }

void give_back_free_memory() {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

Buffer::~Buffer() {
#if defined(__linux__)
  if (mapped_) {
    munmap(data_, static_cast<size_t>(rounded_up(size_)));
    return;
  }
#endif
  std::free(data_);
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      mapped_(std::exchange(other.mapped_, false)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

}  // namespace handmill
