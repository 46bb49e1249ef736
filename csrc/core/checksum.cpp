#include "core/checksum.h"

#include <array>

#if defined(__x86_64__)
#include <cpuid.h>
#include <wmmintrin.h>
#endif

namespace handmill {
namespace {

// Bits stand in reverse: the lowest bit of a byte has the highest power of x. The remainder of the
// last 32 bits is kept complemented between calls, as zip wants it.
constexpr uint64_t kPolynomial = 0x104c11db7;

constexpr uint64_t power_of_x(int exponent) {  // modulo the polynomial
  uint64_t power = 1;
  for (int i = 0; i < exponent; ++i) {
    power <<= 1;
    if (power >> 32 != 0) power ^= kPolynomial;
  }
  return power;
}

constexpr uint64_t reversed(uint64_t bits, int count) {
  uint64_t result = 0;
  for (int i = 0; i < count; ++i) result |= (bits >> i & 1) << (count - 1 - i);
  return result;
}

constexpr std::array<uint32_t, 256> kRemainders = [] {
  std::array<uint32_t, 256> remainders{};
  constexpr auto kReversed = static_cast<uint32_t>(reversed(kPolynomial & 0xffffffff, 32));
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t rest = byte;
    for (int bit = 0; bit < 8; ++bit) rest = rest >> 1 ^ ((rest & 1) != 0 ? kReversed : 0);
    remainders[byte] = rest;
  }
  return remainders;
}();

uint32_t byte_by_byte(uint32_t rest, std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) {
    rest = rest >> 8 ^ kRemainders[(rest ^ static_cast<uint32_t>(byte)) & 0xff];
  }
  return rest;
}

#if defined(__x86_64__)

bool has_carryless_product() {
  uint32_t a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & 1u << 1) != 0;
}

#define HM_CARRYLESS __attribute__((target("sse2,pclmul")))

// What 16 bytes become when they move ahead by `bits`: their halves times powers of x. A product
// of two reversed words of 64 bits stands one power too high, so the powers are one less.
template <int bits>
HM_CARRYLESS __m128i moved(__m128i bytes, __m128i onto) {
  constexpr auto kFirst = static_cast<int64_t>(reversed(power_of_x(bits + 63), 64));
  constexpr auto kSecond = static_cast<int64_t>(reversed(power_of_x(bits - 1), 64));
  const __m128i powers = _mm_set_epi64x(kSecond, kFirst);
  const __m128i first = _mm_clmulepi64_si128(bytes, powers, 0x00);
  const __m128i second = _mm_clmulepi64_si128(bytes, powers, 0x11);
  return _mm_xor_si128(_mm_xor_si128(first, second), onto);
}

HM_CARRYLESS __m128i load(const std::byte* at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}

// Four sums of 16 bytes, 64 bytes apart, then one with the same remainder as all: the multiplier
// gives a product in each cycle, but each takes several. At least 64 bytes.
HM_CARRYLESS uint32_t by_products(uint32_t rest, std::span<const std::byte> bytes) {
  const std::byte* at = bytes.data();
  __m128i s0 = _mm_xor_si128(load(at), _mm_cvtsi32_si128(static_cast<int>(rest)));
  __m128i s1 = load(at + 16), s2 = load(at + 32), s3 = load(at + 48);
  size_t left = bytes.size() - 64;
  for (at += 64; left >= 64; at += 64, left -= 64) {
    s0 = moved<512>(s0, load(at));
    s1 = moved<512>(s1, load(at + 16));
    s2 = moved<512>(s2, load(at + 32));
    s3 = moved<512>(s3, load(at + 48));
  }
  std::array<std::byte, 16> sum;
  s3 = moved<128>(moved<128>(moved<128>(s0, s1), s2), s3);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(sum.data()), s3);
  return byte_by_byte(byte_by_byte(0, sum), {at, left});
}

#endif

}  // namespace

uint32_t crc32(uint32_t crc, std::span<const std::byte> bytes) {
#if defined(__x86_64__)
  static const bool fast = has_carryless_product();
  if (fast && bytes.size() >= 64) return ~by_products(~crc, bytes);
#endif
  return ~byte_by_byte(~crc, bytes);
}

}  // namespace handmill
