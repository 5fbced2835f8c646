// Owns: AVX-512 and AVX-VNNI intrinsics for a CPU with AVX2, by SIMDe (libsimde-dev 0.7.4);
// included before all else of an isa_*.cpp that is compiled with BITNET_PLAIN_INTRINSICS.
#pragma once

#include <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

// SIMDe 0.7.4 knows the AVX-512 name of it only.
#define _mm256_dpbusd_avx_epi32 _mm256_dpbusd_epi32
