// Owns: THE bit layout of trits5, 1.6 bits per weight: five ternary2 tiles in the bytes of four.
// Everyone else includes this. Does not own: the tile itself (ternary2.h).
//
// A panel of 32 rows is a stream of ternary2 tiles (32 rows x 4 columns, 32 bytes of four codes).
// Each five of them, a quintet of 20 columns, are stored in 128 bytes, as four tiles of 32 bytes:
//
//     byte p of stored tile f   (p = 0..31, f = 0..3)  =  t + 84 * d
//       t = c0 + 3*c1 + 9*c2 + 27*c3   the four codes in byte p of the quintet's tile f:
//                                      c0 in its bits 1-0, ... c3 in its bits 7-6
//       d                              the code in field f (bits 2f, 2f+1) of byte p of tile 4
//
//     stored     tile 0      tile 1      tile 2      tile 3
//     t of       tile 0      tile 1      tile 2      tile 3
//     d of       tile 4,     tile 4,     tile 4,     tile 4,
//                rows 0-7    rows 8-15   rows 16-23  rows 24-31
//
// The 0 to 4 tiles left over at the end of K stand behind the quintets as they are in ternary2. N
// is padded to 32 and K to 8 with code 1. Bytes with t > 80 or d > 2 are invalid, as is a code 3.
//
// Why: a lookup by t gives a ternary2 byte, and the d of a stored tile are a vector of 8 rows x 4
// columns, which meets the activations of tile 4 without being moved. Why 84 and not 81 = 3^4: it
// is a multiple of 4, so byte / 4 alone tells d (63 entries, one vpermb), and its bits are d three
// times over, 01 01 01 or 10 10 10 in fields 1 to 3: 84 * d masked is field f of tile 4 in place.
#pragma once

#include <cstdint>

#include "packing/ternary2.h"

namespace bitnet::trits5 {

inline constexpr std::int64_t kQuintetTiles = 5;
inline constexpr std::int64_t kQuintetBytes = 4 * ternary2::kTileBytes;
inline constexpr int kBase = 84;    // of d
inline constexpr int kTrits4 = 81;  // values of t

// Bytes of `tiles` tiles from the start of a panel, which has no more or is a multiple of five.
constexpr std::int64_t tile_bytes(std::int64_t tiles) {
  return tiles / kQuintetTiles * kQuintetBytes + tiles % kQuintetTiles * ternary2::kTileBytes;
}
// Bytes of one panel of 32 rows; k_pad is a multiple of 8.
constexpr std::int64_t panel_bytes(std::int64_t k_pad) {
  return tile_bytes(k_pad / ternary2::kTileCols);
}

// t: int8 [n, k], row stride k, values in {-1, 0, 1} (else ValueError naming row and column).
// packed: code_bytes(trits5, n, k) bytes.
void pack(const std::int8_t* t, std::int64_t n, std::int64_t k, std::uint8_t* packed);
void unpack(const std::uint8_t* packed, std::int64_t n, std::int64_t k, std::int8_t* t);
// Where row n, column k lives, and its code (any value for an invalid byte).
std::int64_t byte_of(std::int64_t n, std::int64_t k, std::int64_t k_pad);
int code_at(const std::uint8_t* packed, std::int64_t n, std::int64_t k, std::int64_t k_pad);

// `tiles` tiles of one panel, from a quintet's first to a quintet's last or the panel's last, as
// ternary2: 32 * tiles bytes. Returns whether every code is valid; an invalid one becomes any code.
bool expand(const std::uint8_t* stored, std::int64_t tiles, std::uint8_t* out);

// The first invalid code, or padding that is not code 1, in panels [panel_begin, panel_end).
ternary2::Fault find_fault(const std::uint8_t* packed, std::int64_t n, std::int64_t k,
                           std::int64_t panel_begin, std::int64_t panel_end);
// The padding alone: for who has seen the codes while expanding them.
ternary2::Fault find_padding_fault(const std::uint8_t* packed, std::int64_t n, std::int64_t k,
                                   std::int64_t panel_begin, std::int64_t panel_end);

}  // namespace bitnet::trits5
