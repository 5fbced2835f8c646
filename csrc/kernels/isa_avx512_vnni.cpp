// Owns: the products with int8 activations and attention for AVX-512 with VNNI (Ice Lake, Zen 4 and
// later). Everything else comes from the AVX2 table.
#include "kernels/attend_inl.h"
#include "kernels/kernel_table.h"
#include "kernels/lanes_avx512_inl.h"
#include "kernels/packed_inl.h"
#include "kernels/tiles_avx512_inl.h"
#include "packing/int6.h"

namespace bitnet {
namespace {

// |a| * (w with the sign of a), as in tiles_avx2_inl.h; the sign is a mask here.
struct Int8 : TwoTiles {
  struct Acts {
    __m512i magnitude;
    __mmask64 negative;
  };
  static constexpr int kVecs = 1, kOffset = 0, kTileVecs = 4, kTileTokens = 4, kGemvChains = 4;
  static constexpr std::int64_t kMaxSteps = std::int64_t{1} << 40, kGemvSteps = kMaxSteps;
  static Vec vec(Tiles codes, int) { return codes; }
  static Vec gemv_vec(Tiles codes, int) { return codes; }
  static Acts acts(const std::int8_t* p) {
    const __m512i value = broadcast_qword(p);
    return {_mm512_abs_epi8(value), _mm512_movepi8_mask(value)};
  }
  static Sum add_products(Sum sum, Vec codes, const Acts& acts) {
    const __m512i zero = _mm512_setzero_si512();
    const __m512i weights = _mm512_mask_sub_epi8(codes, acts.negative, zero, codes);
    return dpbusd(sum, acts.magnitude, weights);
  }
  static Avx2::I gemv_flush(Sum sum, int) { return flush(sum); }
};

// Two tiles are six runs, A B C A B C; equal ones are brought together and interleaved at once.
struct Int6 : TwoTiles {
  struct Tiles {
    __m512i a, b, c;
  };
  using Acts = __m512i;
  static constexpr int kVecs = 4, kOffset = int6::kZeroCode;
  static constexpr int kTileVecs = 4, kTileTokens = 6, kGemvChains = 1;
  static constexpr std::int64_t kMaxSteps = std::int64_t{1} << 40;
  using Store = PlainTiles<int6::kTileBytes>;
  static constexpr std::int64_t kTileBytes = int6::kTileBytes, kGroup = int6::kGroup;
  static constexpr bool kScalesByPanel = true;

  // Dwords 0-7 and 8-15 are the halves of `low`, 16-23 and 24-31 those of `high`: interleaves the
  // eight from `first` with the eight from `second`.
  static __m512i interleave(__m512i low, int first, __m512i high, int second) {
    const __m512i eights = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    const __m512i from = _mm512_mask_set1_epi32(_mm512_set1_epi32(first), 0xAAAA, second);
    return _mm512_permutex2var_epi32(low, _mm512_add_epi32(eights, from), high);
  }
  static Tiles load(const std::uint8_t* p) {
    const __m512i ab = _mm512_loadu_si512(p), ca = _mm512_loadu_si512(p + 64);
    const __m512i bc = _mm512_loadu_si512(p + 128);
    return {interleave(ab, 0, ca, 24), interleave(ab, 8, bc, 16), interleave(ca, 0, bc, 24)};
  }
  static __m512i low_bits(__m512i run) { return _mm512_and_si512(run, _mm512_set1_epi8(63)); }
  // Bits of x where the mask has them, else of y.
  static __m512i select(int mask, __m512i x, __m512i y) {
    return _mm512_ternarylogic_epi32(_mm512_set1_epi8(static_cast<char>(mask)), x, y, 0xCA);
  }
  // 4 * code of the fourth vector.
  static __m512i high_bits(const Tiles& tiles) {
    const __m512i ab = select(0xC0, tiles.a, _mm512_srli_epi16(tiles.b, 2));
    const __m512i abc = select(0xF0, ab, _mm512_srli_epi16(tiles.c, 4));
    return _mm512_and_si512(abc, _mm512_set1_epi8(static_cast<char>(0xFC)));
  }
  static Vec vec(const Tiles& tiles, int v) {
    if (v == 3) return _mm512_srli_epi16(high_bits(tiles), 2);  // bits 1-0 of a byte are 0
    return low_bits(v == 0 ? tiles.a : v == 1 ? tiles.b : tiles.c);
  }
  static Acts acts(const std::int8_t* p) { return broadcast_qword(p); }
  static Sum add_products(Sum sum, Vec codes, Acts acts) { return dpbusd(sum, codes, acts); }

  // At most 8 * 252 * 128 a step and row, 2^13 of them in an int32.
  static constexpr std::int64_t kGemvSteps = 1 << 13;
  static Vec gemv_vec(const Tiles& tiles, int v) {
    return v == 3 ? high_bits(tiles) : vec(tiles, v);
  }
  static Vec offset_vec() { return _mm512_set1_epi8(kOffset); }
  static Avx2::I gemv_flush(Sum sum, int v) {
    const Avx2::I rows = flush(sum);
    return v == 3 ? _mm256_srai_epi32(rows, 2) : rows;
  }
};

}  // namespace

extern const KernelTable kAvx512VnniTable;
const KernelTable kAvx512VnniTable = {
    "avx512_vnni",
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
    attend_block<Avx512>,
    nullptr,
    nullptr,
    nullptr,
    nullptr,
};

}  // namespace bitnet
