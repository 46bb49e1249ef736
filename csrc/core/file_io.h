// Parts of a file read into the memory where they stay, and their checksum in the same pass; what
// was written, on its way to the disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace handmill {

struct FilePart {
  std::byte* to;  // null: read for the checksum alone
  int64_t at, bytes;
};

/// How reading ended: with an error number, or before all bytes were there.
struct FileRead {
  uint32_t crc = 0;  // the CRC-32 of all parts, one after the other; 0 unless checked
  int error = 0;
  bool is_whole = true;
};

/// Reads parts of an open file, on all threads where that pays. Does not move the file's position.
/// What parts hold after a failure is undefined. Throws std::bad_alloc.
FileRead read_parts(int descriptor, std::span<const FilePart> parts, bool checked);

/// Lets the system begin to bring bytes of a file to the disk, so that an fsync has less to wait
/// for. A hint: where the system does not take it, nothing happens.
void begin_writeback(int descriptor, int64_t at, int64_t bytes);

}  // namespace handmill
