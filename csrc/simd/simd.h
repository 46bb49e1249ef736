// The one SIMD header that kernels include. It picks the Vec of the instruction set level that this
// translation unit is compiled for. Every level implements the operations documented in vec.h.
//
// The build defines HM_ISA (the namespace: portable, avx2 or avx512) and one of HM_ISA_PORTABLE,
// HM_ISA_AVX2, HM_ISA_AVX512. AArch64 compiles the portable level: GNU vectors of four floats are
// NEON registers there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#ifndef HM_ISA
#error "HM_ISA names the namespace of this instruction set level; the build must define it"
#endif

// Small SIMD functions must not survive as calls: a vector argument would go through memory.
#define HM_INLINE [[gnu::always_inline]] inline

#if defined(HM_ISA_AVX512)
#include "simd/vec_avx512.h"
#elif defined(HM_ISA_AVX2)
#include "simd/vec_avx2.h"
#else
#include "simd/vec.h"
#endif
