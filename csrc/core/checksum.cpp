#include "core/checksum.h"

#include <algorithm>
#include <array>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#include <wmmintrin.h>
#endif

#include "core/parallel.h"

namespace handmill {
namespace {

constexpr int64_t kChecksumPerThread = int64_t{2} << 20;  // some 200 us; a thread wakes up in 50

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

constexpr auto kReversedPolynomial = static_cast<uint32_t>(reversed(kPolynomial & 0xffffffff, 32));

constexpr std::array<uint32_t, 256> kRemainders = [] {
  std::array<uint32_t, 256> remainders{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t rest = byte;
    for (int bit = 0; bit < 8; ++bit)
      rest = rest >> 1 ^ ((rest & 1) != 0 ? kReversedPolynomial : 0);
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

// The product of two remainders, whose lowest bit has the highest power of x.
uint32_t product_of_remainders(uint32_t a, uint32_t b) {
  uint32_t sum = 0;
  for (uint32_t bit = 1u << 31; bit != 0; bit >>= 1) {
    if ((a & bit) != 0) sum ^= b;
    b = b >> 1 ^ ((b & 1) != 0 ? kReversedPolynomial : 0);
  }
  return sum;
}

}  // namespace

uint32_t joined_crc32(uint32_t first, uint32_t second, int64_t second_bytes) {
  uint32_t power = 1u << 30;  // x, squared until it has moved `first` ahead by all bits
  for (uint64_t bits = static_cast<uint64_t>(second_bytes) * 8; bits != 0; bits >>= 1) {
    if ((bits & 1) != 0) first = product_of_remainders(first, power);
    power = product_of_remainders(power, power);
  }
  return first ^ second;
}

uint32_t crc32(uint32_t crc, std::span<const std::byte> bytes) {
#if defined(__x86_64__)
  static const bool fast = has_carryless_product();
  if (fast && bytes.size() >= 64) return ~by_products(~crc, bytes);
#endif
  return ~byte_by_byte(~crc, bytes);
}

uint32_t crc32_by_threads(uint32_t crc, std::span<const std::byte> bytes) {
  const auto total = static_cast<int64_t>(bytes.size());
  const int64_t threads = std::clamp<int64_t>(total / kChecksumPerThread, 1, num_threads());
  if (threads == 1) return crc32(crc, bytes);
  struct Share {
    std::span<const std::byte> bytes;
    uint32_t crc = 0;
  };
  std::vector<Share> shares(static_cast<size_t>(threads));
  for (int64_t i = 0; i < threads; ++i) {
    const auto begin = static_cast<size_t>(total * i / threads);
    const auto end = static_cast<size_t>(total * (i + 1) / threads);
    shares[static_cast<size_t>(i)].bytes = bytes.subspan(begin, end - begin);
  }
  run_region(
      static_cast<int>(threads),
      [](void* erased, const Worker& worker) {
        auto& all = *static_cast<std::vector<Share>*>(erased);
        for (size_t s = static_cast<size_t>(worker.index()); s < all.size();
             s += static_cast<size_t>(worker.count())) {
          all[s].crc = crc32(0, all[s].bytes);
        }
      },
      &shares);
  for (const Share& share : shares) {
    crc = joined_crc32(crc, share.crc, static_cast<int64_t>(share.bytes.size()));
  }
  return crc;
}

}  // namespace handmill
