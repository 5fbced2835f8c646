// Owns: the int8 weight format. Symmetric per row: w ~ scale[n] * c, c in [-127, 127] (never -128,
// so that |a| * sign(w, a) products of vpmaddubsw stay inside int16).
//
// A tile is 8 rows x 4 columns in 32 bytes: byte 4*i + j holds column j of row i. Tiles of an 8-row
// panel follow each other along K, panels along N. N is padded to 8 and K to 8 with code 0.
#pragma once

#include <cstdint>

namespace bitnet::int8 {

inline constexpr std::int64_t kTileRows = 8;
inline constexpr std::int64_t kTileCols = 4;
inline constexpr std::int64_t kTileBytes = 32;
// An int32 sum of products, 127 * 128 each, holds this many columns.
inline constexpr std::int64_t kMaxColumns = std::int64_t{1} << 17;

constexpr std::int64_t panel_bytes(std::int64_t k_pad) { return k_pad * kTileRows; }
constexpr std::int64_t byte_of(std::int64_t n, std::int64_t k, std::int64_t k_pad) {
  return n / kTileRows * panel_bytes(k_pad) + k / kTileCols * kTileBytes + n % kTileRows * 4 +
         k % kTileCols;
}

// absmax per row: scale[i] = max|w_i| / 127 (0 for a zero row), codes = rint_half_even(w / scale).
// w: float32 [n, k]; codes: int8 [n, k]; scale: float32 [n].
void quantize_rows(const float* w, std::int64_t n, std::int64_t k, std::int8_t* codes,
                   float* scale);

// codes: int8 [n, k] in [-127, 127] (else ValueError).
void pack(const std::int8_t* codes, std::int64_t n, std::int64_t k, std::uint8_t* packed);
void unpack(const std::uint8_t* packed, std::int64_t n, std::int64_t k, std::int8_t* codes);

// Offset of the first code -128 or padding byte that is not 0 in the given panels; -1: none.
std::int64_t find_fault(const std::uint8_t* packed, std::int64_t n, std::int64_t k,
                        std::int64_t panel_begin, std::int64_t panel_end);

}  // namespace bitnet::int8
