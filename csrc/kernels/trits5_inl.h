// Owns: how the nests of packed_inl.h read trits5 panels: the quintets that a part of a panel needs
// are expanded into L1 first. Does not own: the layout (packing/trits5.h), the expansion itself.
#pragma once

#include "kernels/packed_inl.h"
#include "packing/trits5.h"

namespace bitnet {
namespace {

constexpr std::int64_t kQuintetTiles = trits5::kQuintetTiles;
constexpr std::int64_t kQuintetBytes = trits5::kQuintetBytes;

template <ExpandTritsFn expand>
struct QuintetPanels {
  static constexpr bool kOwnGemv = false;
  static constexpr std::int64_t kGemvTokens = 2;
  static constexpr std::int64_t kPartTiles = kBlockTiles / 10 * 10;  // whole quintets, even
  static constexpr std::int64_t kGemvPart = kPartTiles;
  struct Scratch {
    // Two quintets may be needed in part.
    alignas(64) std::uint8_t tiles[(kBlockTiles + 2 * kQuintetTiles) * kTileBytes];
  };

  static std::int64_t panel_bytes(std::int64_t tiles) {
    return tiles / kQuintetTiles * kQuintetBytes + tiles % kQuintetTiles * kTileBytes;
  }
  template <class S>
  static const std::uint8_t* tiles(const std::uint8_t* panel, std::int64_t tiles,
                                   std::int64_t first, std::int64_t count, Scratch& scratch) {
    const std::int64_t quintet = first / kQuintetTiles, begin = quintet * kQuintetTiles;
    const std::int64_t whole = (first + count + kQuintetTiles - 1) / kQuintetTiles * kQuintetTiles;
    const std::int64_t end = smaller(whole, tiles);
    const std::uint8_t* stored = panel + quintet * kQuintetBytes;
    for (std::int64_t line = 0; line < (end - begin) * kTileBytes * 4 / 5; line += 64)
      S::prefetch(stored + line + kAhead);
    expand(stored, end - begin, scratch.tiles);
    return scratch.tiles + (first - begin) * kTileBytes;
  }
  template <class S>
  static void prefetch(const std::uint8_t*) {}
};

}  // namespace
}  // namespace bitnet
