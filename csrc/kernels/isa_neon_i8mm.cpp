// Owns: the products with int8 activations for NEON with the matrix products of ARMv8.6 (Neoverse
// V1 and N2, Apple M2 and later), for many tokens. Few tokens go by sdot; everything else comes
// from the dotprod table.
#include "kernels/kernel_table.h"
#include "kernels/packed_inl.h"
#include "kernels/tiles_neon_inl.h"

namespace bitnet {
namespace {

// A format's vectors for smmla, which multiplies 2 rows x 8 columns of codes with 8 columns x 2
// tokens. Two tiles are zipped by dwords, so that a register holds two rows, eight columns of each.
template <class Format>
struct Pairs : Format {
  using typename Format::Tiles;
  using typename Format::Vec;
  struct Sum {
    int32x4_t at[4];  // rows 2i and 2i + 1, each of two tokens
  };
  using Acts = int8x16_t;
  static constexpr int kActTokens = 2;

  static Tiles load(const std::uint8_t* p) {
    Tiles tiles = Format::load(p);
    Format::each_run(tiles, [](TwoTiles::Tiles& run) {
      const auto zip = [&](auto i) {
        const int32x4_t first = vreinterpretq_s32_s8(run.at[i]);
        const int32x4_t second = vreinterpretq_s32_s8(run.at[i + 2]);
        return int32x4x2_t{{vzip1q_s32(first, second), vzip2q_s32(first, second)}};
      };
      const int32x4x2_t low = zip(Index<0>{}), high = zip(Index<1>{});
      run = {{vreinterpretq_s8_s32(low.val[0]), vreinterpretq_s8_s32(low.val[1]),
              vreinterpretq_s8_s32(high.val[0]), vreinterpretq_s8_s32(high.val[1])}};
    });
    return tiles;
  }
  static Sum zero() {
    const int32x4_t none = vdupq_n_s32(0);
    return {{none, none, none, none}};
  }
  static Acts acts(const std::int8_t* p, std::int64_t stride) {
    return vcombine_s8(vld1_s8(p), vld1_s8(p + stride));
  }
  static Sum add_products(Sum sum, const Vec& codes, Acts acts) {
    repeat<4>([&](auto i) { sum.at[i] = vmmlaq_s32(sum.at[i], codes.at[i], acts); });
    return sum;
  }
  template <int kToken>
  static Neon::I flush(const Sum& sum, Index<kToken>) {
    if constexpr (kToken == 0)
      return {vuzp1q_s32(sum.at[0], sum.at[1]), vuzp1q_s32(sum.at[2], sum.at[3])};
    else
      return {vuzp2q_s32(sum.at[0], sum.at[1]), vuzp2q_s32(sum.at[2], sum.at[3])};
  }
};

constexpr KernelTable make_table() {
  KernelTable table{};
  table.name = "neon_i8mm";
  const auto set = [&](Format format, LinearFn linear, DotFn dot) {
    table.linear[static_cast<int>(format)] = linear;
    table.dot[static_cast<int>(format)] = dot;
  };
  set(Format::kInt8, packed_linear<Int8, Pairs<Int8>>, packed_dot<Int8, Pairs<Int8>>);
  set(Format::kTernary2, packed_linear<Ternary2, Pairs<Ternary2>>,
      packed_dot<Ternary2, Pairs<Ternary2>>);
  set(Format::kInt6, packed_linear<Int6, Pairs<Int6>>, packed_dot<Int6, Pairs<Int6>>);
  return table;
}

}  // namespace

extern const KernelTable kNeonI8mmTable;
constexpr KernelTable kNeonI8mmTable = make_table();

}  // namespace bitnet
