// Owns: THE bit layout of int6, 6 bits per weight, and its quantizer. For tables (output head,
// embedding): w ~ scale * (c - 32), c in 0..63, one float16 scale per row and 32 columns.
//
// A tile is 32 rows x 4 columns in three runs of 32 bytes, A, B and C. Byte 4*i + j of a run
// (i = 0..7, j = 0..3) holds column j: the whole code of one row, and two bits of a fourth row's.
//
//            bits 7-6                  bits 5-0
//     A      row i+24, its bits 5-4    row i
//     B      row i+24, its bits 3-2    row i+8
//     C      row i+24, its bits 1-0    row i+16
//
// The tiles of a 32-row panel follow each other along K, panels follow each other along N. N is
// padded to 32 and K to 8 with code 32, which is weight 0. Scales are [N_pad/32, ceil(K/32), 32],
// so that those of a panel are a second sequential stream.
//
// Why: lanes are rows, as in ternary2, and a panel is one sequential stream. Three of four vectors
// of codes are one mask away, the fourth takes three shifts: 11 operations per 128 codes, where
// nibbles with a plane of high bits beside them take 17. Every code is valid.
#pragma once

#include <cstdint>

namespace bitnet::int6 {

inline constexpr std::int64_t kTileRows = 32;
inline constexpr std::int64_t kTileCols = 4;
inline constexpr std::int64_t kTileBytes = 96;
inline constexpr std::int64_t kRunBytes = 32;
inline constexpr std::int64_t kRunRows = 8;  // rows whose codes lie whole in a run
inline constexpr std::int64_t kGroup = 32;   // columns that share a scale
inline constexpr int kZeroCode = 32;

// Bytes of one panel of 32 rows; k_pad is a multiple of 8.
constexpr std::int64_t panel_bytes(std::int64_t k_pad) { return k_pad / kTileCols * kTileBytes; }

// The code of row n, column k.
inline int code_at(const std::uint8_t* packed, std::int64_t n, std::int64_t k, std::int64_t k_pad) {
  const std::uint8_t* a = packed + n / kTileRows * panel_bytes(k_pad) + k / kTileCols * kTileBytes +
                          n % kRunRows * 4 + k % kTileCols;
  const std::int64_t run = n % kTileRows / kRunRows;
  if (run < 3) return a[run * kRunBytes] & 63;
  return (a[0] >> 6) << 4 | (a[kRunBytes] >> 6) << 2 | a[2 * kRunBytes] >> 6;
}

// Per row and group of 32 columns the scale s that leaves the smallest sum of (w - s*c)^2 among
// max|w| / d, d = 28..43, rounded to float16; the first of equals. Below 31 it is coarser than
// needed, above 32 it clips. c = clip(rint_half_even(w * (1/s)), -32, 31); a group whose scale
// would not be a positive float16 has scale 0 and codes 0. w: finite float32 [n, k]; codes: int8
// [n, k]; scale: float32 [n, ceil(k/32)], float16 values. False: a weight is too large for float16.
bool quantize_groups(const float* w, std::int64_t n, std::int64_t k, std::int8_t* codes,
                     float* scale);

// codes: int8 [n, k] in [-32, 31] (else ValueError). packed: code_bytes(int6, n, k) bytes.
void pack(const std::int8_t* codes, std::int64_t n, std::int64_t k, std::uint8_t* packed);
void unpack(const std::uint8_t* packed, std::int64_t n, std::int64_t k, std::int8_t* codes);

// Offset of the tile of the first padding code that is not 32 in the given panels; -1: none.
std::int64_t find_fault(const std::uint8_t* packed, std::int64_t n, std::int64_t k,
                        std::int64_t panel_begin, std::int64_t panel_end);

}  // namespace bitnet::int6
