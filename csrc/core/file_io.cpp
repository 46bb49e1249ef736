#include "core/file_io.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "core/buffer.h"
#include "core/checksum.h"
#include "core/parallel.h"

namespace handmill {
namespace {

// In the second-level cache when the checksum is made.
constexpr int64_t kReadAtOnce = int64_t{512} << 10;
constexpr int64_t kReadPerThread = int64_t{1} << 20;

// What one thread reads of the parts, taken as one run of bytes.
struct ReaderShare {
  int64_t begin = 0, end = 0;
  FileRead read;
};

struct FileRun {
  int descriptor;
  std::span<const FilePart> parts;
  bool checked;
  std::span<ReaderShare> shares;
  std::byte* scratch;  // kReadAtOnce for each thread

  void read_share(ReaderShare& share, std::byte* own_scratch) const noexcept {
    int64_t start = 0;  // of the part in the run
    for (const FilePart& part : parts) {
      const int64_t from = std::max(share.begin, start) - start;
      const int64_t until = std::min(share.end, start + part.bytes) - start;
      for (int64_t done = from; done < until; done += kReadAtOnce) {
        const int64_t count = std::min(kReadAtOnce, until - done);
        std::byte* const to = part.to == nullptr ? own_scratch : part.to + done;
        if (!read_piece(to, part.at + done, count, share.read)) return;
        if (checked) {
          share.read.crc = crc32(share.read.crc, {to, static_cast<size_t>(count)});
        }
      }
      start += part.bytes;
    }
  }

  bool read_piece(std::byte* to, int64_t at, int64_t bytes, FileRead& result) const noexcept {
    while (bytes > 0) {
      const ssize_t count = pread(descriptor, to, static_cast<size_t>(bytes), at);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) {
        result.is_whole = false;
        result.error = count < 0 ? errno : 0;
        return false;
      }
      to += count;
      at += count;
      bytes -= count;
    }
    return true;
  }

  // A worker of a region that has fewer threads than shares takes several.
  void run(const Worker& worker) const noexcept {
    for (size_t s = static_cast<size_t>(worker.index()); s < shares.size();
         s += static_cast<size_t>(worker.count())) {
      read_share(shares[s], scratch + worker.index() * kReadAtOnce);
    }
  }
};

}  // namespace

FileRead read_parts(int descriptor, std::span<const FilePart> parts, bool checked) {
  int64_t total = 0;
  bool has_scratch = false;
  for (const FilePart& part : parts) {
    total += part.bytes;
    has_scratch = has_scratch || (part.to == nullptr && part.bytes > 0);
  }
  const int64_t threads = std::clamp<int64_t>(total / kReadPerThread, 1, num_threads());
  const Buffer scratch(has_scratch ? threads * kReadAtOnce : 0);
  std::vector<ReaderShare> shares(static_cast<size_t>(threads));
  for (int64_t i = 0; i < threads; ++i) {
    shares[static_cast<size_t>(i)] = {total * i / threads, total * (i + 1) / threads, {}};
  }
  FileRun run{descriptor, parts, checked, shares, scratch.data()};
  run_region(
      static_cast<int>(threads),
      [](void* erased, const Worker& worker) { static_cast<const FileRun*>(erased)->run(worker); },
      &run);
  FileRead result;
  for (const ReaderShare& share : shares) {
    if (!share.read.is_whole) return share.read;
    if (checked) result.crc = joined_crc32(result.crc, share.read.crc, share.end - share.begin);
  }
  return result;
}

void begin_writeback([[maybe_unused]] int descriptor, [[maybe_unused]] int64_t at,
                     [[maybe_unused]] int64_t bytes) {
#if defined(SYNC_FILE_RANGE_WRITE)
  sync_file_range(descriptor, at, bytes, SYNC_FILE_RANGE_WRITE);
#endif
}

}  // namespace handmill
