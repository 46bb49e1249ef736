#include "core/copying.h"

#include <algorithm>
#include <cstring>

#include "core/parallel.h"

namespace handmill {
namespace {

// A thread copies a megabyte in some 100 us, and wakes up in 50.
constexpr int64_t kCopyPerThread = int64_t{1} << 20;
constexpr int64_t kCopyPage = 4096;

struct CopiedBytes {
  std::byte* to;
  const std::byte* from;
  int64_t bytes;

  void run(const Worker& worker) const noexcept {
    const auto bound = [&](int64_t index) {
      return index == worker.count() ? bytes
                                     : bytes / worker.count() / kCopyPage * kCopyPage * index;
    };
    const int64_t begin = bound(worker.index()), end = bound(worker.index() + 1);
    std::memcpy(to + begin, from + begin, static_cast<size_t>(end - begin));
  }
};

}  // namespace

void copy_bytes(std::byte* to, const std::byte* from, int64_t bytes) {
  const auto a = reinterpret_cast<uintptr_t>(to), b = reinterpret_cast<uintptr_t>(from);
  const bool overlaps = std::max(a, b) - std::min(a, b) < static_cast<uintptr_t>(bytes);
  const int64_t threads =
      overlaps ? 1 : std::clamp<int64_t>(bytes / kCopyPerThread, 1, num_threads());
  if (threads == 1) {
    std::memmove(to, from, static_cast<size_t>(bytes));
    return;
  }
  CopiedBytes copied{to, from, bytes};
  run_region(
      static_cast<int>(threads),
      [](void* erased, const Worker& worker) {
        static_cast<const CopiedBytes*>(erased)->run(worker);
      },
      &copied);
}

}  // namespace handmill
