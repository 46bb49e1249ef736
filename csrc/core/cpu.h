// The instruction-set levels: which ones this build and this machine have, and which one is used.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace handmill {

/// avx512_bf16 is avx512 with the kernels that have bfloat16 dot products.
enum class Isa { portable, avx2, avx512, avx512_bf16 };

inline constexpr int kIsaCount = 4;

std::string_view isa_name(Isa isa);

/// The levels that can run here, lowest first. Asks the CPU and the operating system once.
const std::vector<Isa>& available_isas();

/// As CPUID gives it, such as "GenuineIntel"; empty elsewhere.
const std::string& cpu_vendor();

/// The best of them, except that avx512_bf16 has to be asked for where its dot products are slow.
Isa default_isa();

/// The level of that name. Throws std::runtime_error, which lists the available ones.
Isa find_isa(std::string_view name);

/// The level of new plans: that of HANDMILL_ISA as read when the module was loaded, else
/// default_isa(). Throws as find_isa does if HANDMILL_ISA names a level that is missing.
Isa current_isa();

void set_isa(Isa isa);

/// Whether new plans of a level use dot products of bytes (VNNI): where the CPU has them, unless
/// set_int8_dot(false) was called. The integers are the same without them.
bool uses_int8_dot(Isa isa);

void set_int8_dot(bool use);

}  // namespace handmill
