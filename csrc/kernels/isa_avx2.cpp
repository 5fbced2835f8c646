// Owns: the kernel table for AVX2 with FMA and F16C (x86-64-v3).
#include <immintrin.h>

#include "kernels/attend_inl.h"
#include "kernels/dense_inl.h"
#include "kernels/float_inl.h"
#include "kernels/kernel_table.h"
#include "kernels/lanes_avx2_inl.h"
#include "kernels/packed_inl.h"

namespace bitnet {
namespace {

__m256i load_bytes(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

__m256i broadcast_dword(const std::int8_t* p) {
  std::int32_t dword;
  __builtin_memcpy(&dword, p, sizeof dword);
  return _mm256_set1_epi32(dword);
}

// What both formats share: a step is one tile.
struct OneTile {
  using S = Avx2;
  using Tiles = __m256i;
  using Vec = __m256i;
  using Sum = __m256i;
  static constexpr std::int64_t kTiles = 1, kVecBytes = 32;
  static Tiles load(const std::uint8_t* p) { return load_bytes(p); }
  static Vec load_vec(const std::uint8_t* p) { return load_bytes(p); }
  static void store_vec(std::uint8_t* p, Vec v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
  }
  static Sum zero() { return _mm256_setzero_si256(); }
};

// Codes 0..2 are the unsigned operand of vpmaddubsw. One step adds at most 2 * 2 * 128 to an int16
// lane: 64 steps reach -32768 exactly and no further.
struct Ternary2 : OneTile {
  using Acts = __m256i;
  static constexpr int kVecs = 4, kOffset = 1, kTileVecs = 2, kTileTokens = 6;
  static constexpr std::int64_t kMaxSteps = 64;
  static Vec vec(Tiles codes, int v) {
    return _mm256_and_si256(_mm256_srli_epi16(codes, 2 * v), _mm256_set1_epi8(3));
  }
  static Acts acts(const std::int8_t* p) { return broadcast_dword(p); }
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

// int8 x int8 as |a| * (w with the sign of a): a may be -128, whose magnitude fits the unsigned
// operand; w may not, since -(-128) does not fit the signed one. Pairs stay within 2 * 128 * 127.
struct Int8 : OneTile {
  struct Acts {
    __m256i value, magnitude;
  };
  static constexpr int kVecs = 1, kOffset = 0, kTileVecs = 2, kTileTokens = 4;
  static constexpr std::int64_t kMaxSteps = std::int64_t{1} << 40;  // int32 sums
  static Vec vec(Tiles codes, int) { return codes; }
  static Acts acts(const std::int8_t* p) {
    const __m256i value = broadcast_dword(p);
    return {value, _mm256_abs_epi8(value)};
  }
  static Sum add_products(Sum sum, Vec codes, const Acts& acts) {
    const __m256i pairs = _mm256_maddubs_epi16(acts.magnitude, _mm256_sign_epi8(codes, acts.value));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static Avx2::I flush(Sum sum) { return sum; }

  static constexpr std::int64_t kGemvSteps = kMaxSteps;
  static Vec gemv_vec(Tiles codes, int v) { return vec(codes, v); }
  static Avx2::I gemv_flush(Sum sum, int) { return flush(sum); }
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
    attend<Avx2>,
};

}  // namespace bitnet
