// Owns: <arm_neon.h> for x86, by SIMDe (libsimde-dev 0.7.4), and the calls of AArch64 that it
// lacks.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <math.h>
#include <simde/arm/neon.h>

template <class To, class Fn>
static To each_of_four(Fn fn) {
  To v = {};
  for (int i = 0; i < 4; ++i) v[i] = fn(i);
  return v;
}
static inline float32x4_t vdivq_f32(float32x4_t a, float32x4_t b) {
  return each_of_four<float32x4_t>([&](int i) { return a[i] / b[i]; });
}
static inline float32x4_t vsqrtq_f32(float32x4_t a) {
  return each_of_four<float32x4_t>([&](int i) { return sqrtf(a[i]); });
}
static inline int32x4_t vcvtnq_s32_f32(float32x4_t a) {
  return each_of_four<int32x4_t>([&](int i) { return static_cast<int>(rintf(a[i])); });
}
static inline float vmaxnmvq_f32(float32x4_t a) {
  return fmaxf(fmaxf(a[0], a[1]), fmaxf(a[2], a[3]));
}
