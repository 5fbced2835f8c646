// Owns: the packed formats (packed_inl.h) by sdot (ARMv8.2 dotprod), which the NEON tables share. A
// lane of sdot adds four products of signed bytes to an int32, exactly: lanes are rows, as on x86.
#pragma once

#include "kernels/lanes_neon_inl.h"
#include "kernels/packed_inl.h"
#include "packing/int6.h"

namespace bitnet {
namespace {

// A step is two tiles, neighbours along K: one load of eight activations serves both, as sdot takes
// four of them by index. (A load that broadcasts four costs an arithmetic slot on many cores.)
struct TwoTiles {
  using S = Neon;
  using Store = PlainPanels;
  struct Tiles {
    int8x16_t at[4];  // rows 0-3 and 4-7 of the first tile, then of the second
  };
  using Vec = Tiles;
  using Acts = int8x8_t;
  using Sum = Neon::I;
  static constexpr std::int64_t kTiles = 2, kVecBytes = 64, kTileBytes = 32, kGroup = kGroupSize;
  static constexpr bool kScalesByPanel = false;
  static constexpr int kTileVecs = 2, kTileTokens = 4, kActTokens = 1;
  static constexpr std::int64_t kMaxSteps = std::int64_t{1} << 40;  // int32

  static Tiles load(const std::uint8_t* p) {
    const auto* at = reinterpret_cast<const std::int8_t*>(p);
    return {{vld1q_s8(at), vld1q_s8(at + 16), vld1q_s8(at + 32), vld1q_s8(at + 48)}};
  }
  static Vec load_vec(const std::uint8_t* p) { return load(p); }
  static void store_vec(std::uint8_t* p, const Vec& v) {
    repeat<4>([&](auto i) { vst1q_s8(reinterpret_cast<std::int8_t*>(p) + 16 * i, v.at[i]); });
  }
  static Acts acts(const std::int8_t* p) { return vld1_s8(p); }
  static Sum zero() { return Neon::set_int(0); }
  static Sum add_products(Sum sum, const Vec& codes, Acts acts) {
    sum.low = vdotq_lane_s32(sum.low, codes.at[0], acts, 0);
    sum.high = vdotq_lane_s32(sum.high, codes.at[1], acts, 0);
    sum.low = vdotq_lane_s32(sum.low, codes.at[2], acts, 1);
    sum.high = vdotq_lane_s32(sum.high, codes.at[3], acts, 1);
    return sum;
  }
  static Neon::I flush(Sum sum) { return sum; }

  template <class Fn>
  static Vec each(const Tiles& tiles, Fn fn) {
    Vec vec;
    repeat<4>(
        [&](auto i) { vec.at[i] = vreinterpretq_s8_u8(fn(vreinterpretq_u8_s8(tiles.at[i]))); });
    return vec;
  }

  // Of each run of bytes in a step: a tile may have several, which are stored one after the other.
  template <class Fn>
  static void each_run(Tiles& tiles, Fn fn) {
    fn(tiles);
  }
};

// Four 2-bit fields of a byte, each the codes of 8 rows.
struct Ternary2 : TwoTiles {
  static constexpr int kVecs = 4, kOffset = 1, kGemvChains = 2;
  template <int kField>
  static Vec vec(const Tiles& tiles, Index<kField>) {
    return each(tiles, [](uint8x16_t bytes) {
      if constexpr (kField == 0)
        return vandq_u8(bytes, vdupq_n_u8(3));
      else if constexpr (kField == 3)
        return vshrq_n_u8(bytes, 6);
      else
        return vandq_u8(vshrq_n_u8(bytes, 2 * kField), vdupq_n_u8(3));
    });
  }

  // Fields 0 to 2 stay in place, times 1, 4 or 16: int32 has room while 2 * 16 * 128 * K < 2^31.
  // The last would be negative there.
  static constexpr std::int64_t kGemvSteps = 1 << 15;
  template <int kField>
  static Vec gemv_vec(const Tiles& tiles, Index<kField> field) {
    if constexpr (kField == 3)
      return vec(tiles, field);
    else
      return each(tiles,
                  [](uint8x16_t bytes) { return vandq_u8(bytes, vdupq_n_u8(3 << 2 * kField)); });
  }
  template <int kField>
  static Neon::I gemv_flush(Sum sum, Index<kField>) {
    if constexpr (kField == 0 || kField == 3)
      return sum;
    else
      return {vshrq_n_s32(sum.low, 2 * kField), vshrq_n_s32(sum.high, 2 * kField)};
  }
};

struct Int8 : TwoTiles {
  static constexpr int kVecs = 1, kOffset = 0, kGemvChains = 4;
  static constexpr std::int64_t kGemvSteps = kMaxSteps;
  static Vec vec(const Tiles& tiles, int) { return tiles; }
  static Vec gemv_vec(const Tiles& tiles, int) { return tiles; }
  static Neon::I gemv_flush(Sum sum, int) { return sum; }
};

// Three runs of bytes: the low six bits of each are the codes of 8 rows, the high two bits of all
// three those of 8 more. Codes 0..63 are signed bytes; four times as large they would not be.
struct Int6 : TwoTiles {
  struct Tiles {
    TwoTiles::Tiles a, b, c;
  };
  static constexpr int kVecs = 4, kOffset = int6::kZeroCode, kGemvChains = 1;
  using Store = PlainTiles<int6::kTileBytes>;
  static constexpr std::int64_t kTileBytes = int6::kTileBytes, kGroup = int6::kGroup;
  static constexpr bool kScalesByPanel = true;

  static Tiles load(const std::uint8_t* p) {
    const auto run = [p](std::int64_t first) {
      const auto* at = reinterpret_cast<const std::int8_t*>(p) + first * int6::kRunBytes;
      const auto* next = at + kTileBytes;
      return TwoTiles::Tiles{
          {vld1q_s8(at), vld1q_s8(at + 16), vld1q_s8(next), vld1q_s8(next + 16)}};
    };
    return {run(0), run(1), run(2)};
  }
  template <int kVec>
  static Vec vec(const Tiles& tiles, Index<kVec>) {
    const auto low_bits = [](const TwoTiles::Tiles& run) {
      return each(run, [](uint8x16_t bytes) { return vandq_u8(bytes, vdupq_n_u8(63)); });
    };
    if constexpr (kVec == 0) return low_bits(tiles.a);
    if constexpr (kVec == 1) return low_bits(tiles.b);
    if constexpr (kVec == 2) return low_bits(tiles.c);
    Vec high;
    if constexpr (kVec == 3)
      repeat<4>([&](auto i) {
        const auto bytes = [i](const TwoTiles::Tiles& run) {
          return vreinterpretq_u8_s8(run.at[i]);
        };
        const uint8x16_t ab = vsriq_n_u8(bytes(tiles.a), bytes(tiles.b), 2);
        const uint8x16_t abc = vsriq_n_u8(ab, bytes(tiles.c), 4);
        high.at[i] = vreinterpretq_s8_u8(vshrq_n_u8(abc, 2));
      });
    return high;
  }
  static Vec offset_vec() {
    Vec codes;
    for (int8x16_t& part : codes.at) part = vdupq_n_s8(kOffset);
    return codes;
  }

  static constexpr std::int64_t kGemvSteps = kMaxSteps;
  template <int kVec>
  static Vec gemv_vec(const Tiles& tiles, Index<kVec> v) {
    return vec(tiles, v);
  }
  static Neon::I gemv_flush(Sum sum, int) { return sum; }

  template <class Fn>
  static void each_run(Tiles& tiles, Fn fn) {
    fn(tiles.a);
    fn(tiles.b);
    fn(tiles.c);
  }
};

}  // namespace
}  // namespace bitnet
