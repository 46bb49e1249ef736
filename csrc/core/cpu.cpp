#include "core/cpu.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace handmill {
namespace {

constexpr std::string_view kIsaNames[kIsaCount] = {"portable", "avx2", "avx512", "avx512_bf16"};

#if defined(HM_HAS_AVX2) || defined(HM_HAS_AVX512)

bool has(uint32_t word, uint32_t bits) { return (word & bits) == bits; }

// The registers that the operating system saves and restores: XCR0.
uint64_t saved_state() {
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

// The best x86-64 psABI level: 3 (avx2), 4 (avx512), or less.
int psabi_level() {
  uint32_t a, b, c, d, a1, b1, c1, d1, b7, c7, d7;
  if (!__get_cpuid(1, &a, &b, &c1, &d1) || !__get_cpuid_count(7, 0, &a1, &b7, &c7, &d7) ||
      !__get_cpuid(0x80000001, &a, &b1, &c, &d)) {
    return 1;
  }
  constexpr uint32_t kFma = 1u << 12, kMovbe = 1u << 22, kOsxsave = 1u << 27, kAvx = 1u << 28,
                     kF16c = 1u << 29;
  constexpr uint32_t kBmi1 = 1u << 3, kAvx2 = 1u << 5, kBmi2 = 1u << 8;
  constexpr uint32_t kLzcnt = 1u << 5;
  if (!has(c1, kFma | kMovbe | kOsxsave | kAvx | kF16c) || !has(b7, kBmi1 | kAvx2 | kBmi2) ||
      !has(c, kLzcnt) || (saved_state() & 0x6) != 0x6) {
    return 2;
  }
  constexpr uint32_t kF = 1u << 16, kDq = 1u << 17, kCd = 1u << 28, kBw = 1u << 30, kVl = 1u << 31;
  return has(b7, kF | kDq | kCd | kBw | kVl) && (saved_state() & 0xe6) == 0xe6 ? 4 : 3;
}

#endif

#if defined(HM_HAS_AVX512_BF16)

bool has_bf16_dot() {
  uint32_t a, b, c, d;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && has(a, 1u << 5);
}

// Whether vdpbf16ps is worth its packing, by vendor. AMD (family 19h models 10h+, 1Ah): twice the
// float32 rate, measured on Zen 4. Intel (Cooper Lake, Sapphire Rapids and later): reported at half
// the float32 rate and less; they have tiles for bfloat16, which nothing here uses yet.
bool has_fast_bf16_dot() { return cpu_vendor() == "AuthenticAMD"; }

#endif

#if defined(HM_HAS_AVX2_VNNI)
bool has_avx_vnni() {
  uint32_t a, b, c, d;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && has(a, 1u << 4);
}
#endif
#if defined(HM_HAS_AVX512_VNNI)
bool has_avx512_vnni() {
  uint32_t a, b, c, d;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && has(c, 1u << 11);
}
#endif

std::vector<Isa> find_available() {
  std::vector<Isa> levels = {Isa::portable};
#if defined(HM_HAS_AVX2)
  if (psabi_level() >= 3) levels.push_back(Isa::avx2);
#endif
#if defined(HM_HAS_AVX512)
  if (psabi_level() >= 4) levels.push_back(Isa::avx512);
#endif
#if defined(HM_HAS_AVX512_BF16)
  if (psabi_level() >= 4 && has_bf16_dot()) levels.push_back(Isa::avx512_bf16);
#endif
  return levels;
}

std::string find_vendor() {
  std::string vendor;
#if defined(__x86_64__)
  uint32_t a, b, c, d;
  if (__get_cpuid(0, &a, &b, &c, &d) == 0) return vendor;
  for (uint32_t word : {b, d, c}) {
    for (int i = 0; i < 4; ++i) vendor += static_cast<char>(word >> (8 * i) & 0xff);
  }
#endif
  return vendor;
}

std::string read_environment() {
  const char* name = std::getenv("HANDMILL_ISA");
  return name == nullptr ? "" : name;
}

const std::string forced_name = read_environment();
std::atomic<int> chosen_isa{-1};
std::atomic<bool> int8_dot_wanted{true};

}  // namespace

std::string_view isa_name(Isa isa) { return kIsaNames[static_cast<int>(isa)]; }

const std::string& cpu_vendor() {
  static const std::string vendor = find_vendor();
  return vendor;
}

const std::vector<Isa>& available_isas() {
  static const std::vector<Isa> levels = find_available();
  return levels;
}

Isa default_isa() {
  const Isa last = available_isas().back();
#if defined(HM_HAS_AVX512_BF16)
  if (last == Isa::avx512_bf16 && !has_fast_bf16_dot()) return Isa::avx512;
#endif
  return last;
}

Isa find_isa(std::string_view name) {
  std::string list;
  for (Isa isa : available_isas()) {
    if (isa_name(isa) == name) return isa;
    list += (list.empty() ? "" : ", ") + std::string(isa_name(isa));
  }
  throw std::runtime_error("no instruction-set level \"" + std::string(name) +
                           "\" here; available: " + list);
}

Isa current_isa() {
  const int isa = chosen_isa.load(std::memory_order_relaxed);
  if (isa >= 0) [[likely]] {
    return static_cast<Isa>(isa);
  }
  set_isa(forced_name.empty() ? default_isa() : find_isa(forced_name));
  return current_isa();
}

bool uses_int8_dot(Isa isa) {
  if (!int8_dot_wanted.load(std::memory_order_relaxed)) return false;
#if defined(HM_HAS_AVX2_VNNI)
  static const bool narrow = has_avx_vnni();
  if (isa == Isa::avx2) return narrow;
#endif
#if defined(HM_HAS_AVX512_VNNI)
  static const bool wide = has_avx512_vnni();
  if (isa == Isa::avx512 || isa == Isa::avx512_bf16) return wide;
#endif
  return false;
}

void set_int8_dot(bool use) { int8_dot_wanted.store(use, std::memory_order_relaxed); }

void set_isa(Isa isa) { chosen_isa.store(static_cast<int>(isa), std::memory_order_relaxed); }

}  // namespace handmill
