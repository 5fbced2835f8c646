// Owns: what the 256-bit tables share of the packed formats (packed_inl.h): a step is one tile.
#pragma once

#include <immintrin.h>

#include "kernels/lanes_avx2_inl.h"
#include "kernels/packed_inl.h"
#include "packing/int6.h"

namespace bitnet {
namespace {

struct OneTile {
  using S = Avx2;
  using Store = PlainPanels;
  using Tiles = __m256i;
  using Vec = __m256i;
  using Sum = __m256i;
  static constexpr std::int64_t kTiles = 1, kVecBytes = 32, kTileBytes = 32, kGroup = kGroupSize;
  static constexpr bool kScalesByPanel = false;
  static constexpr int kActTokens = 1;

  static Tiles load(const std::uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static Vec load_vec(const std::uint8_t* p) { return load(p); }
  static void store_vec(std::uint8_t* p, Vec v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
  }
  static Sum zero() { return _mm256_setzero_si256(); }

  static __m256i broadcast_dword(const std::int8_t* p) {
    std::int32_t dword;
    __builtin_memcpy(&dword, p, sizeof dword);
    return _mm256_set1_epi32(dword);
  }
};

// Four 2-bit fields of a byte, each the codes of 8 rows.
struct TernaryTile : OneTile {
  using Acts = __m256i;
  static constexpr int kVecs = 4, kOffset = 1;
  static Vec vec(Tiles codes, int v) {
    return _mm256_and_si256(_mm256_srli_epi16(codes, 2 * v), _mm256_set1_epi8(3));
  }
  static Acts acts(const std::int8_t* p) { return broadcast_dword(p); }
};

// Three runs of bytes: the low six bits of each are the codes of 8 rows, the high two bits of all
// three those of 8 more.
struct Int6Tile : OneTile {
  struct Tiles {
    __m256i a, b, c;
  };
  using Acts = __m256i;
  static constexpr int kVecs = 4, kOffset = int6::kZeroCode;
  using Store = PlainTiles<int6::kTileBytes>;
  static constexpr std::int64_t kTileBytes = int6::kTileBytes, kGroup = int6::kGroup;
  static constexpr bool kScalesByPanel = true;
  static constexpr std::int64_t kMaxSteps = std::int64_t{1} << 40;  // int32
  static Tiles load(const std::uint8_t* p) {
    return {OneTile::load(p), OneTile::load(p + 32), OneTile::load(p + 64)};
  }
  static __m256i low_bits(__m256i run) { return _mm256_and_si256(run, _mm256_set1_epi8(63)); }
  // 4 * code of the fourth vector.
  static __m256i high_bits(const Tiles& tiles) {
    const __m256i a = _mm256_and_si256(tiles.a, _mm256_set1_epi8(static_cast<char>(0xC0)));
    const __m256i b = _mm256_and_si256(_mm256_srli_epi16(tiles.b, 2), _mm256_set1_epi8(0x30));
    const __m256i c = _mm256_and_si256(_mm256_srli_epi16(tiles.c, 4), _mm256_set1_epi8(0x0C));
    return _mm256_or_si256(_mm256_or_si256(a, b), c);
  }
  static Vec vec(const Tiles& tiles, int v) {
    if (v == 3) return _mm256_srli_epi16(high_bits(tiles), 2);  // bits 1-0 of a byte are 0
    return low_bits(v == 0 ? tiles.a : v == 1 ? tiles.b : tiles.c);
  }
  static Vec offset_vec() { return _mm256_set1_epi8(kOffset); }
  static Acts acts(const std::int8_t* p) { return broadcast_dword(p); }
  static Avx2::I flush(Sum sum) { return sum; }
};

// int8 x int8 as |a| * (w with the sign of a): a may be -128, whose magnitude fits the unsigned
// operand of the products; w may not, since -(-128) does not fit the signed one.
struct Int8Tile : OneTile {
  struct Acts {
    __m256i value, magnitude;
  };
  static constexpr int kVecs = 1, kOffset = 0;
  static constexpr std::int64_t kMaxSteps = std::int64_t{1} << 40, kGemvSteps = kMaxSteps;  // int32
  static Vec vec(Tiles codes, int) { return codes; }
  static Vec gemv_vec(Tiles codes, int) { return codes; }
  static Acts acts(const std::int8_t* p) {
    const __m256i value = broadcast_dword(p);
    return {value, _mm256_abs_epi8(value)};
  }
  static Avx2::I flush(Sum sum) { return sum; }
  static Avx2::I gemv_flush(Sum sum, int) { return sum; }
};

}  // namespace
}  // namespace bitnet
