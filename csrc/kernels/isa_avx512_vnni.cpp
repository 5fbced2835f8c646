// Owns: the products with int8 activations and attention for AVX-512 with VNNI (Ice Lake, Zen 4 and
// later). Everything else comes from the AVX2 table.
#include "kernels/attend_inl.h"
#include "kernels/kernel_table.h"
#include "kernels/lanes_avx512_inl.h"
#include "kernels/packed_inl.h"
#include "kernels/tiles_avx512_inl.h"

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

}  // namespace

extern const KernelTable kAvx512VnniTable;
const KernelTable kAvx512VnniTable = {
    "avx512_vnni",
    {nullptr, nullptr, nullptr, packed_linear<Int8>, packed_linear<Ternary2>},
    {nullptr, nullptr, nullptr, packed_dot<Int8>, packed_dot<Ternary2>},
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
