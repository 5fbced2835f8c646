// Owns: the kernel table for AVX2 with FMA and F16C (x86-64-v3).
#include <immintrin.h>

#include "kernels/attend_inl.h"
#include "kernels/dense_inl.h"
#include "kernels/float_inl.h"
#include "kernels/kernel_table.h"
#include "kernels/logits_inl.h"
#include "kernels/packed_inl.h"
#include "kernels/store_kv_inl.h"
#include "kernels/tiles_avx2_inl.h"
#include "packing/trits5.h"

namespace bitnet {
namespace {

// Codes 0..2 are the unsigned operand of vpmaddubsw. One step adds at most 2 * 2 * 128 to an int16
// lane: 64 steps reach -32768 exactly and no further.
struct Ternary2 : TernaryTile {
  static constexpr int kTileVecs = 2, kTileTokens = 6, kGemvChains = 1;
  static constexpr std::int64_t kMaxSteps = 64;
  static Sum add_products(Sum sum, Vec codes, Acts acts) {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, acts));
  }
  static Avx2::I flush(Sum sum) { return _mm256_madd_epi16(sum, _mm256_set1_epi16(1)); }

  // Fields 1 and 3 stay in place as 4 * code: two shifts fewer per tile, for a flush every 16 steps
  // of at most 2 * 8 * 128.
  static constexpr std::int64_t kGemvSteps = 16;
  static Vec gemv_vec(Tiles codes, int v) {
    const __m256i low = v < 2 ? codes : _mm256_srli_epi16(codes, 4);
    return _mm256_and_si256(low, _mm256_set1_epi8(v % 2 == 0 ? 3 : 12));
  }
  static Avx2::I gemv_flush(Sum sum, int v) {
    return v % 2 == 0 ? flush(sum) : _mm256_srai_epi32(flush(sum), 2);
  }
};

struct Int8 : Int8Tile {
  static constexpr int kTileVecs = 2, kTileTokens = 4, kGemvChains = 1;
  static Sum add_products(Sum sum, Vec codes, const Acts& acts) {
    const __m256i pairs =  // at most 2 * 128 * 127
        _mm256_maddubs_epi16(acts.magnitude, _mm256_sign_epi8(codes, acts.value));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};

// The rest of a byte modulo `base`, below three times that: what is below zero is large.
__m256i mod3(__m256i bytes, int base) {
  const __m256i once = _mm256_sub_epi8(bytes, _mm256_set1_epi8(static_cast<char>(base)));
  const __m256i twice = _mm256_sub_epi8(bytes, _mm256_set1_epi8(static_cast<char>(2 * base)));
  return _mm256_min_epu8(bytes, _mm256_min_epu8(once, twice));
}

// Four codes from t = c0 + 3*c1 + 9*c2 + 27*c3: c3 by subtraction, the others by their 27 values.
__m256i ternary_fields(__m256i t) {
  const __m256i low = mod3(t, 27);
  // By the low nibble of 27 * c3: 0, 11 or 6.
  const __m256i c3 = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 0, 0, 0, 0, 0, -128, 0, 0, 0, 0, 64, 0, 0, 0, 0));
  const __m256i below16 = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 16, 17, 18, 20, 21, 22, 24));
  const __m256i from16 = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(25, 26, 32, 33, 34, 36, 37, 38, 40, 41, 42, 0, 0, 0, 0, 0));
  // vpshufb gives 0 where bit 7 of an index is set: from 16 on, and below.
  const __m256i fields =
      _mm256_or_si256(_mm256_shuffle_epi8(below16, _mm256_add_epi8(low, _mm256_set1_epi8(112))),
                      _mm256_shuffle_epi8(from16, _mm256_sub_epi8(low, _mm256_set1_epi8(16))));
  return _mm256_or_si256(fields, _mm256_shuffle_epi8(c3, _mm256_sub_epi8(t, low)));
}

bool expand_trits5(const std::uint8_t* stored, std::int64_t tiles, std::uint8_t* out) {
  __m256i most = _mm256_setzero_si256(), code3 = most;
  for (; tiles >= trits5::kQuintetTiles; tiles -= trits5::kQuintetTiles) {
    __m256i last = _mm256_setzero_si256();
    repeat<4>([&](auto f) {
      const __m256i bytes = OneTile::load(stored + f * kTileBytes);
      const __m256i t = mod3(bytes, trits5::kBase);
      most = _mm256_max_epu8(most, t);
      OneTile::store_vec(out + f * kTileBytes, ternary_fields(t));
      // 84 * d is d in each of the fields 1, 2 and 3.
      const __m256i d = _mm256_sub_epi8(bytes, t);
      const __m256i in_place = f == 0 ? _mm256_srli_epi16(d, 2) : d;
      const __m256i field = _mm256_set1_epi8(static_cast<char>(3 << 2 * f));
      last = _mm256_or_si256(last, _mm256_and_si256(in_place, field));
    });
    OneTile::store_vec(out + 4 * kTileBytes, last);
    stored += trits5::kQuintetBytes;
    out += trits5::kQuintetTiles * kTileBytes;
  }
  for (; tiles > 0; --tiles, stored += kTileBytes, out += kTileBytes) {
    const __m256i codes = OneTile::load(stored);
    code3 = _mm256_or_si256(code3, _mm256_and_si256(codes, _mm256_srli_epi16(codes, 1)));
    OneTile::store_vec(out, codes);
  }
  const __m256i is_most =
      _mm256_cmpeq_epi8(_mm256_max_epu8(most, _mm256_set1_epi8(trits5::kTrits4 - 1)),
                        _mm256_set1_epi8(trits5::kTrits4 - 1));
  return _mm256_movemask_epi8(is_most) == -1 &&
         _mm256_testz_si256(code3, _mm256_set1_epi8(0x55)) != 0;
}
// Codes 0..63: at most 2 * 63 * 128 in an int16 lane.
struct Int6 : Int6Tile {
  static constexpr int kTileVecs = 2, kTileTokens = 4, kGemvChains = 1;
  static Sum add_products(Sum sum, Vec codes, Acts acts) {
    const __m256i pairs = _mm256_maddubs_epi16(codes, acts);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static constexpr std::int64_t kGemvSteps = kMaxSteps;
  static Vec gemv_vec(const Tiles& tiles, int v) { return vec(tiles, v); }
  static Avx2::I gemv_flush(Sum sum, int) { return sum; }
};

#if defined(__GNUC__)
// Twelve sums, two vectors of codes and two temporaries are all sixteen registers. gcc 12 loads the
// broadcasts of several tokens first and spills; one statement per token leaves it no choice.
template <>
void add_token<Ternary2>(__m256i (&sum)[2], const __m256i (&vec)[2], const std::int8_t* x) {
  __m256i a = sum[0], b = sum[1], acts, products;
  __asm__(
      "vpbroadcastd %6, %2\n\t"
      "vpmaddubsw %2, %4, %3\n\t"
      "vpmaddubsw %2, %5, %2\n\t"
      "vpaddw %3, %0, %0\n\t"
      "vpaddw %2, %1, %1"
      : "+x"(a), "+x"(b), "=&x"(acts), "=&x"(products)
      : "x"(vec[0]), "x"(vec[1]), "m"(*reinterpret_cast<const char (*)[4]>(x)));
  sum[0] = a;
  sum[1] = b;
}
#endif

}  // namespace

extern const KernelTable kAvx2Table;
const KernelTable kAvx2Table = {
    "avx2",
    {dense_linear<Avx2, float>, dense_linear<Avx2, F16>, dense_linear<Avx2, BF16>,
     packed_linear<Int8>, packed_linear<Ternary2>, nullptr, packed_linear<Int6>},
    {nullptr, nullptr, nullptr, packed_dot<Int8>, packed_dot<Ternary2>, nullptr, packed_dot<Int6>},
    expand_trits5,
    quantize_act<Avx2>,
    rms_norm<Avx2>,
    rope<Avx2>,
    gated_activation<Avx2>,
    add<Avx2>,
    store_kv<Avx2>,
    attend_block<Avx2>,
    attend_merge<Avx2>,
    attend_finish<Avx2>,
    block_maxima<Avx2>,
    sum_exp<Avx2>,
};

}  // namespace bitnet
