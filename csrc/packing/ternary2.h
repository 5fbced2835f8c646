// Owns: THE bit layout of ternary2, 2 bits per weight. Everyone else includes this.
//
// A weight [N, K] of t in {-1, 0, +1} is stored as codes c = t + 1 in {0, 1, 2}; 3 is invalid. A
// tile is 32 rows x 4 columns in 32 bytes:
//
//     byte 4*i + j   (i = 0..7, j = 0..3)  holds column j of four rows:
//       bits 7-6   bits 5-4   bits 3-2   bits 1-0
//       row i+24   row i+16   row i+8    row i
//
// The tiles of a 32-row panel follow each other along K, panels follow each other along N. N is
// padded to 32 and K to 8 (two tiles = 64 bytes = one AVX-512 load) with code 1, which is weight 0.
//
// Why: a dword holds four consecutive k of one row, so the lanes of vpmaddubsw / vpdpbusd / sdot
// are rows. No horizontal sums, one broadcast of four activations serves four fields, and a panel
// is one sequential stream. Measured against two other layouts in docs/decisions.md.
#pragma once

#include <cstdint>

namespace bitnet::ternary2 {

inline constexpr std::int64_t kTileRows = 32;
inline constexpr std::int64_t kTileCols = 4;
inline constexpr std::int64_t kTileBytes = 32;
inline constexpr std::int64_t kFieldRows = 8;  // rows in one 2-bit field of a tile
inline constexpr std::int64_t kFields = 4;
inline constexpr std::uint8_t kZeroByte = 0x55;  // four codes 1: padding

// Bytes of one panel of 32 rows; k_pad is a multiple of 8.
constexpr std::int64_t panel_bytes(std::int64_t k_pad) { return k_pad / kTileCols * kTileBytes; }

// Where row n, column k lives.
constexpr std::int64_t byte_of(std::int64_t n, std::int64_t k, std::int64_t k_pad) {
  return n / kTileRows * panel_bytes(k_pad) + k / kTileCols * kTileBytes + n % kFieldRows * 4 +
         k % kTileCols;
}
constexpr int shift_of(std::int64_t n) { return static_cast<int>(n % kTileRows / kFieldRows * 2); }

// t: int8 [n, k], row stride k. ValueError naming op, row and column unless all are -1, 0 or 1.
void check_values(const char* op, const std::int8_t* t, std::int64_t n, std::int64_t k);
// t: as check_values wants it, which pack calls. packed: code_bytes(ternary2, n, k) bytes.
void pack(const std::int8_t* t, std::int64_t n, std::int64_t k, std::uint8_t* packed);
void unpack(const std::uint8_t* packed, std::int64_t n, std::int64_t k, std::int8_t* t);

// Offset of the first byte with a code 3; -1: none.
std::int64_t first_code3(const std::uint8_t* bytes, std::int64_t count);

// The first fault in panels [panel_begin, panel_end): a code 3, or padding that is not code 1.
struct Fault {
  std::int64_t byte = -1;  // offset from the start of `packed`; -1: none
  bool is_padding = false;
};
Fault find_fault(const std::uint8_t* packed, std::int64_t n, std::int64_t k,
                 std::int64_t panel_begin, std::int64_t panel_end);

}  // namespace bitnet::ternary2
