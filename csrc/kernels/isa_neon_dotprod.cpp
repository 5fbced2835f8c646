// Owns: the kernel table for NEON with the dot products of ARMv8.2 (Cortex-A76, Neoverse N1, Apple
// A13 and later).
#include "kernels/attend_inl.h"
#include "kernels/dense_inl.h"
#include "kernels/float_inl.h"
#include "kernels/kernel_table.h"
#include "kernels/logits_inl.h"
#include "kernels/packed_inl.h"
#include "kernels/store_kv_inl.h"
#include "kernels/tiles_neon_inl.h"
#include "packing/trits5.h"

namespace bitnet {
namespace {

// The rest of a byte modulo `base`, below three times that: what is below zero is large.
uint8x16_t mod3(uint8x16_t bytes, int base) {
  const uint8x16_t once = vsubq_u8(bytes, vdupq_n_u8(static_cast<std::uint8_t>(base)));
  const uint8x16_t twice = vsubq_u8(bytes, vdupq_n_u8(static_cast<std::uint8_t>(2 * base)));
  return vminq_u8(bytes, vminq_u8(once, twice));
}

// Four codes from t = c0 + 3*c1 + 9*c2 + 27*c3. Three by their 27 values; and -27 is 1 modulo 4, so
// that the low two bits of -27 * c3 are c3.
uint8x16_t ternary_fields(uint8x16_t t) {
  static constexpr std::uint8_t kFields[32] = {0,  1,  2,  4,  5,  6,  8,  9,  10,
                                               16, 17, 18, 20, 21, 22, 24, 25, 26,
                                               32, 33, 34, 36, 37, 38, 40, 41, 42};
  const uint8x16x2_t fields = {{vld1q_u8(kFields), vld1q_u8(kFields + 16)}};
  const uint8x16_t low = mod3(t, 27);
  return vorrq_u8(vqtbl2q_u8(fields, low), vshlq_n_u8(vsubq_u8(low, t), 6));
}

bool expand_trits5(const std::uint8_t* stored, std::int64_t tiles, std::uint8_t* out) {
  uint8x16_t most = vdupq_n_u8(0), code3 = most;
  for (; tiles >= trits5::kQuintetTiles; tiles -= trits5::kQuintetTiles) {
    for (int half = 0; half < kTileBytes; half += 16) {
      uint8x16_t last = vdupq_n_u8(0);
      repeat<4>([&](auto f) {
        const uint8x16_t bytes = vld1q_u8(stored + f * kTileBytes + half);
        const uint8x16_t t = mod3(bytes, trits5::kBase);
        most = vmaxq_u8(most, t);
        vst1q_u8(out + f * kTileBytes + half, ternary_fields(t));
        // 84 * d is d in each of the fields 1, 2 and 3.
        uint8x16_t in_place = vsubq_u8(bytes, t);
        if constexpr (f == 0) in_place = vshrq_n_u8(in_place, 2);
        constexpr std::uint8_t kField = 3 << 2 * f;
        last = vorrq_u8(last, vandq_u8(in_place, vdupq_n_u8(kField)));
      });
      vst1q_u8(out + 4 * kTileBytes + half, last);
    }
    stored += trits5::kQuintetBytes;
    out += trits5::kQuintetTiles * kTileBytes;
  }
  for (std::int64_t i = 0; i < tiles * kTileBytes; i += 16) {
    const uint8x16_t codes = vld1q_u8(stored + i);
    code3 = vorrq_u8(code3, vandq_u8(codes, vshrq_n_u8(codes, 1)));
    vst1q_u8(out + i, codes);
  }
  return vmaxvq_u8(most) < trits5::kTrits4 && vmaxvq_u8(vandq_u8(code3, vdupq_n_u8(0x55))) == 0;
}

}  // namespace

extern const KernelTable kNeonDotprodTable;
const KernelTable kNeonDotprodTable = {
    "neon_dotprod",
    {dense_linear<Neon, float>, dense_linear<Neon, F16>, dense_linear<Neon, BF16>,
     packed_linear<Int8>, packed_linear<Ternary2>, nullptr, packed_linear<Int6>},
    {nullptr, nullptr, nullptr, packed_dot<Int8>, packed_dot<Ternary2>, nullptr, packed_dot<Int6>},
    expand_trits5,
    quantize_act<Neon>,
    rms_norm<Neon>,
    rope<Neon>,
    gated_activation<Neon>,
    add<Neon>,
    store_kv<Neon>,
    attend_block<Neon>,
    attend_merge<Neon>,
    attend_finish<Neon>,
    block_maxima<Neon>,
    sum_exp<Neon>,
};

}  // namespace bitnet
