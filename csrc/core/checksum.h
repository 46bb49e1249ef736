// The checksum of zip files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace handmill {

/// Continues `crc`, the CRC-32 of what came before (0 for nothing), over more bytes.
uint32_t crc32(uint32_t crc, std::span<const std::byte> bytes);

/// The same, on all threads where that pays.
uint32_t crc32_by_threads(uint32_t crc, std::span<const std::byte> bytes);

/// The CRC-32 of two runs of bytes, one after the other, from those of each and the length of the
/// second.
uint32_t joined_crc32(uint32_t first, uint32_t second, int64_t second_bytes);

}  // namespace handmill
