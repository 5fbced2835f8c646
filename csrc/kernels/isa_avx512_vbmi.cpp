// Owns: trits5 for AVX-512 with VBMI (Ice Lake, Zen 4 and later), where bytes are looked up in
// registers. Everything else comes from the AVX-512 VNNI table.
#include "kernels/kernel_table.h"
#include "kernels/packed_inl.h"
#include "kernels/tiles_avx512_inl.h"
#include "kernels/trits5_inl.h"

namespace bitnet {
namespace {

struct Lookup {
  alignas(64) std::uint8_t fields[128];  // four codes as in ternary2, by t
  alignas(64) std::uint8_t last[64];     // 84 * d, by byte / 4
};
constexpr Lookup make_lookup() {
  Lookup table{};
  for (int t = 0; t < trits5::kTrits4; ++t)
    table.fields[t] =
        static_cast<std::uint8_t>(t % 3 | t / 3 % 3 << 2 | t / 9 % 3 << 4 | t / 27 << 6);
  constexpr int kQuarter = trits5::kBase / 4;
  for (int i = 0; i < 64; ++i)
    table.last[i] =
        static_cast<std::uint8_t>(trits5::kBase * (i < 3 * kQuarter ? i / kQuarter : 2));
  return table;
}
constexpr Lookup kLookup = make_lookup();

// Two stored tiles in registers.
struct TwoStored {
  __m512i t, last;  // t, and 84 * d
  __m512i fields() const {
    return _mm512_permutex2var_epi8(_mm512_load_si512(kLookup.fields), t,
                                    _mm512_load_si512(kLookup.fields + 64));
  }
};
TwoStored split(__m512i bytes) {
  // A lookup takes the low six bits of its index: what the shift brings from the byte above stays
  // out of it.
  const __m512i last =
      _mm512_permutexvar_epi8(_mm512_srli_epi16(bytes, 2), _mm512_load_si512(kLookup.last));
  return {_mm512_sub_epi8(bytes, last), last};
}

bool expand_trits5(const std::uint8_t* stored, std::int64_t tiles, std::uint8_t* out) {
  __m512i most = _mm512_setzero_si512();
  for (; tiles >= kQuintetTiles; tiles -= kQuintetTiles) {
    const TwoStored a = split(_mm512_loadu_si512(stored));
    const TwoStored b = split(_mm512_loadu_si512(stored + 64));
    most = _mm512_max_epu8(most, _mm512_max_epu8(a.t, b.t));
    _mm512_storeu_si512(out, a.fields());
    _mm512_storeu_si512(out + 64, b.fields());
    // 84 * d is d in each of the fields 1, 2 and 3: tiles 0, 1 of a, tiles 2, 3 of b.
    const auto field = [](__m256i d, int f) {
      return _mm256_and_si256(d, _mm256_set1_epi8(static_cast<char>(3 << 2 * f)));
    };
    const __m256i low =
        _mm256_or_si256(field(_mm256_srli_epi16(_mm512_castsi512_si256(a.last), 2), 0),
                        field(_mm512_extracti64x4_epi64(a.last, 1), 1));
    const __m256i high = _mm256_or_si256(field(_mm512_castsi512_si256(b.last), 2),
                                         field(_mm512_extracti64x4_epi64(b.last, 1), 3));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 4 * kTileBytes),
                        _mm256_or_si256(low, high));
    stored += kQuintetBytes;
    out += kQuintetTiles * kTileBytes;
  }
  __m256i code3 = _mm256_setzero_si256();
  for (; tiles > 0; --tiles, stored += kTileBytes, out += kTileBytes) {
    const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(stored));
    code3 = _mm256_or_si256(code3, _mm256_and_si256(codes, _mm256_srli_epi16(codes, 1)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), codes);
  }
  return _mm512_cmpge_epu8_mask(most, _mm512_set1_epi8(trits5::kTrits4)) == 0 &&
         _mm256_testz_si256(code3, _mm256_set1_epi8(0x55)) != 0;
}

struct FusedQuintets : QuintetPanels<expand_trits5> {
  static constexpr bool kOwnGemv = true;
  static constexpr std::int64_t kGemvTokens = 4;  // expanding a block pays from five tokens on
  // int32 has room for 128 * 128 * 16 per quintet and row: field 3 in place, of four tiles.
  static constexpr std::int64_t kGemvPart = kQuintetTiles << 13;
};

struct Trits5 : Ternary2 {
  using Store = FusedQuintets;

  // Adds the sums over the tiles [first, last) of a panel of `tiles` to `total`.
  //
  // A register holds stored tiles 0 and 1, or 2 and 3, one in each half. Its 84 * d belong to the
  // rows of fields 0 and 1, or 2 and 3, and meet the activations of tile 4 in a sum of their own.
  template <int kTokens>
  static void gemv_sums(const std::uint8_t* panel, std::int64_t tiles, std::int64_t first,
                        std::int64_t last, const std::int8_t* x, std::int64_t x_stride,
                        __m256i (&total)[kTokens][kVecs]) {
    constexpr int kChains = kTokens == 1 ? 2 : 1;
    constexpr std::int64_t kColumns = kQuintetTiles * kTileColumns;
    const std::int64_t quintets = tiles / kQuintetTiles;
    __m512i sum[kChains][kTokens][kVecs], last_sum[2][kTokens];
    repeat<kTokens>([&](auto t) {
      repeat<2>([&](auto half) { last_sum[half][t] = zero(); });
      repeat<kChains>([&](auto c) { repeat<kVecs>([&](auto v) { sum[c][t][v] = zero(); }); });
    });
    // Fields 1 to 3 in place, and all together: the sum of field 0 is the difference.
    const auto add_fields = [&](auto c, auto t, __m512i fields, __m512i acts) {
      sum[c][t][0] = dpbusd(sum[c][t][0], fields, acts);
      repeat<3>([&](auto v) {
        sum[c][t][v + 1] = dpbusd(sum[c][t][v + 1], gemv_vec(fields, v + 1), acts);
      });
    };
    const std::int64_t end = smaller((last + kQuintetTiles - 1) / kQuintetTiles, quintets);
    for (std::int64_t q = first / kQuintetTiles; q < end; ++q) {
      const std::uint8_t* stored = panel + q * kQuintetBytes;
      const std::int8_t* acts = x + q * kColumns;
      std::int64_t stride = x_stride;
      alignas(32) std::int8_t some[kTokens][32];  // zeros outside [first, last)
      if (q * kQuintetTiles < first || (q + 1) * kQuintetTiles > last) {
        const std::int64_t skipped = larger(first - q * kQuintetTiles, 0) * kTileColumns;
        const std::int64_t stop = smaller(last - q * kQuintetTiles, kQuintetTiles) * kTileColumns;
        const auto inside = static_cast<__mmask32>((1u << stop) - (1u << skipped));
        for (std::int64_t t = 0; t < kTokens; ++t)
          _mm256_store_si256(reinterpret_cast<__m256i*>(some[t]),
                             _mm256_maskz_loadu_epi8(inside, acts + t * stride));
        acts = some[0];
        stride = 32;
      }
      repeat<2>([&](auto half) {
        Avx2::prefetch(stored + half * 64 + kAhead);
        const TwoStored two = split(_mm512_loadu_si512(stored + half * 64));
        const __m512i fields = two.fields();
        repeat<kTokens>([&](auto t) {
          const std::int8_t* from = acts + t * stride;
          add_fields(Index<half % kChains>{}, t, fields, each_half(from + half * 8));
          last_sum[half][t] = dpbusd(last_sum[half][t], two.last, one_tile(from + 16));
        });
      });
    }
    for (std::int64_t tile = larger(first, quintets * kQuintetTiles); tile < last; ++tile) {
      const std::uint8_t* stored =
          panel + quintets * kQuintetBytes + (tile - quintets * kQuintetTiles) * kTileBytes;
      const __m512i fields =
          _mm512_zextsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(stored)));
      repeat<kTokens>([&](auto t) {
        add_fields(Index<0>{}, t, fields, one_tile(x + t * x_stride + tile * kTileColumns));
      });
    }
    repeat<kTokens>([&](auto t) {
      __m512i fields[kVecs];
      repeat<kVecs>([&](auto v) {
        fields[v] = sum[0][t][v];
        if constexpr (kChains == 2) fields[v] = _mm512_add_epi32(fields[v], sum[1][t][v]);
      });
      fields[0] = _mm512_sub_epi32(
          fields[0], _mm512_add_epi32(_mm512_add_epi32(fields[1], fields[2]), fields[3]));
      repeat<2>([&](auto half) { last_sum[half][t] = exact_div84(last_sum[half][t]); });
      repeat<kVecs>([&](auto v) {
        const __m256i both = _mm256_add_epi32(half_of(fields[v], 0), half_of(fields[v], 1));
        const __m256i row = _mm256_srai_epi32(both, 2 * v);
        const __m256i d = half_of(last_sum[v / 2][t], v % 2);
        total[t][v] = _mm256_add_epi32(total[t][v], _mm256_add_epi32(row, d));
      });
    });
  }

 private:
  static __m512i one_tile(const std::int8_t* p) {
    std::int32_t dword;
    __builtin_memcpy(&dword, p, sizeof dword);
    return _mm512_set1_epi32(dword);
  }
  // Of eight activations the first four in the low half, the others in the high one.
  static __m512i each_half(const std::int8_t* p) {
    const __m512i dword = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
    return _mm512_castps_si512(
        _mm512_permutevar_ps(_mm512_castsi512_ps(broadcast_qword(p)), dword));
  }
  static __m256i half_of(__m512i v, int half) {
    return half == 0 ? _mm512_castsi512_si256(v) : _mm512_extracti64x4_epi64(v, 1);
  }
  // Of multiples of 84 = 4 * 21: modulo 2^32, 0x3cf3cf3d is 1 / 21.
  static __m512i exact_div84(__m512i v) {
    return _mm512_mullo_epi32(_mm512_srai_epi32(v, 2), _mm512_set1_epi32(0x3cf3cf3d));
  }
};

constexpr KernelTable make_table() {
  constexpr int kFormat = static_cast<int>(Format::kTrits5);
  KernelTable table{};
  table.name = "avx512_vbmi";
  table.linear[kFormat] = packed_linear<Trits5>;
  table.dot[kFormat] = packed_dot<Trits5>;
  table.expand_trits5 = expand_trits5;
  return table;
}

}  // namespace

extern const KernelTable kAvx512VbmiTable;
constexpr KernelTable kAvx512VbmiTable = make_table();

}  // namespace bitnet
