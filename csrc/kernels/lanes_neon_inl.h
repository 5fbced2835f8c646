// Owns: the primitives of lanes_inl.h in NEON as every AArch64 has it: eight lanes are two
// registers.
#pragma once

#include <arm_neon.h>

#include "kernels/lanes_inl.h"

namespace bitnet {
namespace {

struct Neon {
  struct F {
    float32x4_t low, high;
  };
  struct I {
    int32x4_t low, high;
  };
  static constexpr int kWidth = 8, kRegisters = 16;  // of type F

  static F keep(F v) {
#if defined(__GNUC__) && defined(__aarch64__)
    __asm__("" : "+w"(v.low), "+w"(v.high));
#endif
    return v;
  }

  static F load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4)}; }
  static F load(const F16* p) {
    const auto half = [](const F16* at) {
      return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&at->bits)));
    };
    return {half(p), half(p + 4)};
  }
  static F load(const BF16* p) {
    const auto half = [](const BF16* at) {
      return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(&at->bits), 16));
    };
    return {half(p), half(p + 4)};
  }
  static F load(const std::int8_t* p) {
    const int16x8_t v = vmovl_s8(vld1_s8(p));
    return to_float({vmovl_s16(vget_low_s16(v)), vmovl_s16(vget_high_s16(v))});
  }
  static void store(float* p, F v) {
    vst1q_f32(p, v.low);
    vst1q_f32(p + 4, v.high);
  }
  static void store(F16* p, F v) {  // rounds as everything does: to nearest, ties to even
    vst1_u16(&p->bits, vreinterpret_u16_f16(vcvt_f16_f32(v.low)));
    vst1_u16(&p[4].bits, vreinterpret_u16_f16(vcvt_f16_f32(v.high)));
  }
  static F set(float v) { return {vdupq_n_f32(v), vdupq_n_f32(v)}; }
  static F add(F a, F b) { return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)}; }
  static F sub(F a, F b) { return {vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)}; }
  static F mul(F a, F b) { return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)}; }
  static F div(F a, F b) { return {vdivq_f32(a.low, b.low), vdivq_f32(a.high, b.high)}; }
  // Not vminq, vmaxq: those give NaN where one operand is NaN.
  static F min(F a, F b) {
    return {vbslq_f32(vcltq_f32(a.low, b.low), a.low, b.low),
            vbslq_f32(vcltq_f32(a.high, b.high), a.high, b.high)};
  }
  static F max(F a, F b) {
    return {vbslq_f32(vcgtq_f32(a.low, b.low), a.low, b.low),
            vbslq_f32(vcgtq_f32(a.high, b.high), a.high, b.high)};
  }
  static F sqrt(F a) { return {vsqrtq_f32(a.low), vsqrtq_f32(a.high)}; }
  static F fma(F a, F b, F c) {
    return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
  }

  static float sum(F v) {
    const float32x4_t pairs = vpaddq_f32(v.low, v.high);
    return vaddv_f32(vget_low_f32(vpaddq_f32(pairs, pairs)));
  }
  static float largest(F v) { return vmaxnmvq_f32(vmaxnmq_f32(v.low, v.high)); }  // NaN is not seen

  static I load(const std::int32_t* p) { return {vld1q_s32(p), vld1q_s32(p + 4)}; }
  static void store(std::int32_t* p, I v) {
    vst1q_s32(p, v.low);
    vst1q_s32(p + 4, v.high);
  }
  static I set_int(std::int32_t v) { return {vdupq_n_s32(v), vdupq_n_s32(v)}; }
  static I add(I a, I b) { return {vaddq_s32(a.low, b.low), vaddq_s32(a.high, b.high)}; }
  static I sub(I a, I b) { return {vsubq_s32(a.low, b.low), vsubq_s32(a.high, b.high)}; }
  static std::int32_t sum(I v) { return vaddvq_s32(vaddq_s32(v.low, v.high)); }
  static I to_int(F v) { return {vcvtnq_s32_f32(v.low), vcvtnq_s32_f32(v.high)}; }
  static F to_float(I v) { return {vcvtq_f32_s32(v.low), vcvtq_f32_s32(v.high)}; }
  static I halve(I v) { return {vshrq_n_s32(v.low, 1), vshrq_n_s32(v.high, 1)}; }
  static F exp2(I v) {
    const auto half = [](int32x4_t x) {
      return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(x, vdupq_n_s32(127)), 23));
    };
    return {half(v.low), half(v.high)};
  }
  static I clip_int8(I v) {
    const auto half = [](int32x4_t x) {
      return vmaxq_s32(vminq_s32(x, vdupq_n_s32(127)), vdupq_n_s32(-128));
    };
    return {half(v.low), half(v.high)};
  }
  static void store_int8(std::int8_t* p, I v) {
    vst1_s8(p, vmovn_s16(vcombine_s16(vmovn_s32(v.low), vmovn_s32(v.high))));
  }
  static void prefetch(const void* p) { __builtin_prefetch(p); }
};

}  // namespace
}  // namespace bitnet
