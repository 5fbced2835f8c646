// Owns: the products with int8 activations for AVX-VNNI (256 bits; Alder Lake, Zen 5 and later).
// Everything else comes from the AVX2 table.
#include <immintrin.h>

#include "kernels/kernel_table.h"
#include "kernels/packed_inl.h"
#include "kernels/tiles_avx2_inl.h"

namespace bitnet {
namespace {

// Adds four products of an unsigned and a signed byte to each int32 lane, exactly. In assembly,
// since gcc 12 copies the sum at every step around its own intrinsic: 2.6 times slower in the GEMV.
__m256i dpbusd(__m256i sum, __m256i unsigned_bytes, __m256i signed_bytes) {
#if defined(__GNUC__) && !defined(BITNET_PLAIN_INTRINSICS)
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(unsigned_bytes), "x"(signed_bytes));
  return sum;
#else
  return _mm256_dpbusd_avx_epi32(sum, unsigned_bytes, signed_bytes);
#endif
}

struct Ternary2 : TernaryTile {
  static constexpr int kTileVecs = 2, kTileTokens = 6, kGemvChains = 2;
  static constexpr std::int64_t kMaxSteps = std::int64_t{1} << 40;
  static Sum add_products(Sum sum, Vec codes, Acts acts) { return dpbusd(sum, codes, acts); }
  static Avx2::I flush(Sum sum) { return sum; }

  // int32 has room for codes left in place, times 1, 4, 16 or 64, while 2 * 64 * 128 * K < 2^31.
  static constexpr std::int64_t kGemvSteps = 1 << 15;
  static Vec gemv_vec(Tiles codes, int v) {
    return _mm256_and_si256(codes, _mm256_set1_epi8(static_cast<char>(3 << 2 * v)));
  }
  static Avx2::I gemv_flush(Sum sum, int v) { return _mm256_srai_epi32(sum, 2 * v); }
};

struct Int8 : Int8Tile {
  static constexpr int kTileVecs = 2, kTileTokens = 4, kGemvChains = 4;
  static Sum add_products(Sum sum, Vec codes, const Acts& acts) {
    return dpbusd(sum, acts.magnitude, _mm256_sign_epi8(codes, acts.value));
  }
};

struct Int6 : Int6Tile {
  static constexpr int kTileVecs = 2, kTileTokens = 6, kGemvChains = 1;
  static Sum add_products(Sum sum, Vec codes, Acts acts) { return dpbusd(sum, codes, acts); }

  // The fourth vector as 4 * code: at most 4 * 252 * 128 a step, 2^14 of them in an int32.
  static constexpr std::int64_t kGemvSteps = 1 << 14;
  static Vec gemv_vec(const Tiles& tiles, int v) {
    return v == 3 ? high_bits(tiles) : vec(tiles, v);
  }
  static Avx2::I gemv_flush(Sum sum, int v) { return v == 3 ? _mm256_srai_epi32(sum, 2) : sum; }
};

}  // namespace

extern const KernelTable kAvxVnniTable;
const KernelTable kAvxVnniTable = {
    "avx_vnni",
    {nullptr, nullptr, nullptr, packed_linear<Int8>, packed_linear<Ternary2>, nullptr,
     packed_linear<Int6>},
    {nullptr, nullptr, nullptr, packed_dot<Int8>, packed_dot<Ternary2>, nullptr, packed_dot<Int6>},
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
};

}  // namespace bitnet
