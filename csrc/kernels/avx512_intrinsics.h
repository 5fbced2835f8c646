// Owns: the intrinsics of the 512-bit tables, without gcc 12's warnings about its own headers. To
// be included before any other that includes immintrin.h.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
// Some intrinsics start from a register that is undefined on purpose (gcc bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
