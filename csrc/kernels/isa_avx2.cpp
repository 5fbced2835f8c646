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
     packed_linear<Int8>, packed_linear<Ternary2>},
    packed_dot<Ternary2>,
    packed_dot<Int8>,
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
