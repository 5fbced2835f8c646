#include "packing/trits5.h"

#include <cstring>
#include <vector>

#include "packing/formats.h"

namespace bitnet::trits5 {
namespace {

using ternary2::kFields;
using ternary2::kTileBytes;
using ternary2::kTileCols;
using ternary2::kTileRows;

constexpr std::uint8_t kInvalid = 0xff;  // no ternary2 byte

// Both directions of the diagram. `fields` has four codes as ternary2 does.
struct Tables {
  std::uint8_t fields[256];  // of t, by byte, or kInvalid
  std::uint8_t last[256];    // d, by byte
  std::uint8_t trits[256];   // t, by ternary2 byte; no meaning for a code 3
};

constexpr Tables make_tables() {
  Tables tables{};
  for (int byte = 0; byte < 256; ++byte) {
    const int t = byte % kBase, d = byte / kBase;
    const int fields = t % 3 | t / 3 % 3 << 2 | t / 9 % 3 << 4 | t / 27 << 6;
    const bool is_valid = t < kTrits4 && d < 3;
    tables.fields[byte] = static_cast<std::uint8_t>(is_valid ? fields : kInvalid);
    tables.last[byte] = static_cast<std::uint8_t>(d);
    if (d == 0 && is_valid) tables.trits[fields] = static_cast<std::uint8_t>(t);
  }
  return tables;
}
constexpr Tables kTables = make_tables();

// One panel of valid ternary2 tiles.
void pack_panel(const std::uint8_t* tiles, std::int64_t count, std::uint8_t* out) {
  for (; count >= kQuintetTiles; count -= kQuintetTiles) {
    const std::uint8_t* last = tiles + kFields * kTileBytes;
    for (std::int64_t f = 0; f < kFields; ++f)
      for (std::int64_t p = 0; p < kTileBytes; ++p)
        *out++ =
            static_cast<std::uint8_t>(kTables.trits[*tiles++] + kBase * (last[p] >> (2 * f) & 3));
    tiles += kTileBytes;
  }
  std::memcpy(out, tiles, static_cast<std::size_t>(count * kTileBytes));
}

// Of a quintet's bytes; -1: none.
std::int64_t first_invalid(const std::uint8_t* bytes, std::int64_t count) {
  constexpr std::int64_t kPart = 1024;  // looked at as a whole first, which compilers vectorize
  for (std::int64_t first = 0; first < count; first += kPart) {
    const std::int64_t last = first + kPart < count ? first + kPart : count;
    std::uint8_t most = 0;
    for (std::int64_t i = first; i < last; ++i) {
      const std::uint8_t b0 = bytes[i];
      const auto b1 = static_cast<std::uint8_t>(b0 - kBase);
      const auto b2 = static_cast<std::uint8_t>(b0 - 2 * kBase);
      const std::uint8_t less = b1 < b0 ? b1 : b0, t = b2 < less ? b2 : less;  // below 0 is large
      most = most > t ? most : t;
    }
    if (most < kTrits4) continue;
    for (std::int64_t i = first; i < last; ++i)
      if (kTables.fields[bytes[i]] == kInvalid) return i;
  }
  return -1;
}

std::int64_t tiles_of(std::int64_t k) {
  return padded_cols(format_info(Format::kTrits5), k) / kTileCols;
}

}  // namespace

bool expand(const std::uint8_t* stored, std::int64_t tiles, std::uint8_t* out) {
  bool is_valid = true;
  for (; tiles >= kQuintetTiles; tiles -= kQuintetTiles) {
    std::uint8_t* last = out + kFields * kTileBytes;
    std::memset(last, 0, kTileBytes);
    for (std::int64_t f = 0; f < kFields; ++f)
      for (std::int64_t p = 0; p < kTileBytes; ++p) {
        const std::uint8_t byte = *stored++;
        *out++ = kTables.fields[byte];
        is_valid &= kTables.fields[byte] != kInvalid;
        last[p] = static_cast<std::uint8_t>(last[p] | kTables.last[byte] << (2 * f));
      }
    out += kTileBytes;
  }
  std::memcpy(out, stored, static_cast<std::size_t>(tiles * kTileBytes));
  return is_valid && ternary2::first_code3(stored, tiles * kTileBytes) < 0;
}

void pack(const std::int8_t* t, std::int64_t n, std::int64_t k, std::uint8_t* packed) {
  const std::int64_t tiles = tiles_of(k);
  std::vector<std::uint8_t> panel(static_cast<std::size_t>(tiles * kTileBytes));
  ternary2::check_values("pack_trits5", t, n, k);
  for (std::int64_t row = 0; row < n; row += kTileRows) {
    const std::int64_t rows = n - row < kTileRows ? n - row : kTileRows;
    ternary2::pack(t + row * k, rows, k, panel.data());
    pack_panel(panel.data(), tiles, packed);
    packed += tile_bytes(tiles);
  }
}

void unpack(const std::uint8_t* packed, std::int64_t n, std::int64_t k, std::int8_t* t) {
  const std::int64_t tiles = tiles_of(k);
  std::vector<std::uint8_t> panel(static_cast<std::size_t>(tiles * kTileBytes));
  for (std::int64_t row = 0; row < n; row += kTileRows) {
    const std::int64_t rows = n - row < kTileRows ? n - row : kTileRows;
    expand(packed, tiles, panel.data());
    ternary2::unpack(panel.data(), rows, k, t + row * k);
    packed += tile_bytes(tiles);
  }
}

std::int64_t byte_of(std::int64_t n, std::int64_t k, std::int64_t k_pad) {
  const std::int64_t tiles = k_pad / kTileCols, tile = k / kTileCols;
  const std::int64_t quintet = tile / kQuintetTiles, place = tile % kQuintetTiles;
  const std::int64_t field = n % kTileRows / ternary2::kFieldRows;
  const std::int64_t stored = place < kFields ? place : field;
  return n / kTileRows * tile_bytes(tiles) + quintet * kQuintetBytes + stored * kTileBytes +
         n % ternary2::kFieldRows * kTileCols + k % kTileCols;
}

int code_at(const std::uint8_t* packed, std::int64_t n, std::int64_t k, std::int64_t k_pad) {
  const std::int64_t tiles = k_pad / kTileCols, tile = k / kTileCols;
  const std::uint8_t byte = packed[byte_of(n, k, k_pad)];
  if (tile >= tiles / kQuintetTiles * kQuintetTiles) return byte >> ternary2::shift_of(n) & 3;
  if (tile % kQuintetTiles == kFields) return kTables.last[byte];
  return kTables.fields[byte] >> ternary2::shift_of(n) & 3;
}

ternary2::Fault find_fault(const std::uint8_t* packed, std::int64_t n, std::int64_t k,
                           std::int64_t panel_begin, std::int64_t panel_end) {
  const std::int64_t tiles = tiles_of(k), bytes = tile_bytes(tiles);
  const std::int64_t whole = tiles / kQuintetTiles * kQuintetBytes;
  for (std::int64_t at = panel_begin * bytes; at < panel_end * bytes; at += bytes) {
    std::int64_t invalid = first_invalid(packed + at, whole);
    if (invalid < 0) {
      invalid = ternary2::first_code3(packed + at + whole, bytes - whole);
      if (invalid >= 0) invalid += whole;
    }
    if (invalid >= 0) return {at + invalid, false};
  }
  return find_padding_fault(packed, n, k, panel_begin, panel_end);
}

ternary2::Fault find_padding_fault(const std::uint8_t* packed, std::int64_t n, std::int64_t k,
                                   std::int64_t panel_begin, std::int64_t panel_end) {
  const std::int64_t k_pad = padded_cols(format_info(Format::kTrits5), k);
  for (std::int64_t row = panel_begin * kTileRows; row < panel_end * kTileRows; ++row)
    for (std::int64_t col = row < n ? k : 0; col < k_pad; ++col)
      if (code_at(packed, row, col, k_pad) != 1) return {byte_of(row, col, k_pad), true};
  return {};
}

}  // namespace bitnet::trits5
