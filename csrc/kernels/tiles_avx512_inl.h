// Owns: what the 512-bit tables share of the packed formats (packed_inl.h): a step is two tiles.
#pragma once

#include "kernels/avx512_intrinsics.h"
#include "kernels/lanes_avx2_inl.h"
#include "kernels/packed_inl.h"

namespace bitnet {
namespace {

// Adds four products of an unsigned and a signed byte to each int32 lane, exactly. In assembly,
// since gcc 12 copies the sum at every step around its own intrinsic.
__m512i dpbusd(__m512i sum, __m512i unsigned_bytes, __m512i signed_bytes) {
#if defined(__GNUC__) && !defined(BITNET_PLAIN_INTRINSICS)
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_bytes), "v"(signed_bytes));
  return sum;
#else
  return _mm512_dpbusd_epi32(sum, unsigned_bytes, signed_bytes);
#endif
}

// A register holds two tiles, neighbours along K. Their dwords are interleaved on loading, so that
// one broadcast of eight activations serves both:
//   dword   0       1       2       3       ...  14      15
//           row 0   row 0   row 1   row 1        row 7   row 7
//           k 0-3   k 4-7   k 0-3   k 4-7        k 0-3   k 4-7
struct TwoTiles {
  using S = Avx2;
  using Store = PlainPanels;
  using Tiles = __m512i;
  using Vec = __m512i;
  using Sum = __m512i;
  static constexpr std::int64_t kTiles = 2, kVecBytes = 64, kTileBytes = 32, kGroup = kGroupSize;
  static constexpr bool kScalesByPanel = false;
  static constexpr int kActTokens = 1;

  static Tiles load(const std::uint8_t* p) {
    const __m512i order = _mm512_set_epi32(15, 7, 14, 6, 13, 5, 12, 4, 11, 3, 10, 2, 9, 1, 8, 0);
    return _mm512_permutexvar_epi32(order, _mm512_loadu_si512(p));
  }
  static Vec load_vec(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
  static void store_vec(std::uint8_t* p, Vec v) { _mm512_storeu_si512(p, v); }
  static Sum zero() { return _mm512_setzero_si512(); }

  static __m512i broadcast_qword(const std::int8_t* p) {
    long long qword;
    __builtin_memcpy(&qword, p, sizeof qword);
    return _mm512_set1_epi64(qword);
  }
  // The two halves of each row.
  static Avx2::I flush(Sum sum) {
    return _mm512_cvtepi64_epi32(_mm512_add_epi32(sum, _mm512_srli_epi64(sum, 32)));
  }
};

// Three and four tokens too are faster two by two, the second pair from L2, than as a block.
struct PairedPanels : PlainPanels {
  static constexpr std::int64_t kGemvTokens = 4;
};

struct Ternary2 : TwoTiles {
  using Store = PairedPanels;
  using Acts = __m512i;
  static constexpr int kVecs = 4, kOffset = 1, kTileVecs = 4, kTileTokens = 6, kGemvChains = 2;
  static constexpr std::int64_t kMaxSteps = std::int64_t{1} << 40;
  static Vec vec(Tiles codes, int v) {
    return _mm512_and_si512(_mm512_srli_epi16(codes, static_cast<unsigned>(2 * v)),
                            _mm512_set1_epi8(3));
  }
  static Acts acts(const std::int8_t* p) { return broadcast_qword(p); }
  static Sum add_products(Sum sum, Vec codes, Acts acts) { return dpbusd(sum, codes, acts); }

  // int32 has room for codes left in place, times 1, 4, 16 or 64, while 2 * 64 * 128 * K < 2^31.
  static constexpr std::int64_t kGemvSteps = 1 << 14;
  static Vec gemv_vec(Tiles codes, int v) {
    return _mm512_and_si512(codes, _mm512_set1_epi8(static_cast<char>(3 << 2 * v)));
  }
  static Avx2::I gemv_flush(Sum sum, int v) { return _mm256_srai_epi32(flush(sum), 2 * v); }
};

}  // namespace
}  // namespace bitnet
