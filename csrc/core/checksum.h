// The checksum of zip files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace handmill {

/// Continues `crc`, the CRC-32 of what came before (0 for nothing), over more bytes.
uint32_t crc32(uint32_t crc, std::span<const std::byte> bytes);

}  // namespace handmill
