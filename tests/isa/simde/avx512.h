// Owns: AVX-512 (VNNI, VBMI) and AVX-VNNI intrinsics for a CPU with AVX2, by SIMDe (libsimde-dev
// 0.7.4), and the calls that it lacks. Included before all else of an isa_*.cpp that is compiled
// with BITNET_PLAIN_INTRINSICS.
#pragma once

#include <immintrin.h>
#include <string.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

// The AVX-512 name of the same.
#define _mm256_dpbusd_avx_epi32 _mm256_dpbusd_epi32

// What 0.7.4 lacks, mostly half by half. Sums may be added in another order than by the CPU.
namespace bitnet_simde {

template <class Half>
struct Halves {
  Half low, high;
};
template <class Half, class Whole>
static Halves<Half> split(Whole whole) {
  Halves<Half> halves;
  static_assert(sizeof halves == sizeof whole, "two halves");
  memcpy(&halves, &whole, sizeof whole);
  return halves;
}
template <class Whole, class Half>
static Whole join(Half low, Half high) {
  const Halves<Half> halves{low, high};
  Whole whole;
  memcpy(&whole, &halves, sizeof whole);
  return whole;
}

static inline __m512 cvtph_ps(__m256i v) {
  const auto h = split<__m128i>(v);
  return join<__m512>(_mm256_cvtph_ps(h.low), _mm256_cvtph_ps(h.high));
}
static inline __m512i cvtepi8_epi32(__m128i v) {
  return join<__m512i>(_mm256_cvtepi8_epi32(v), _mm256_cvtepi8_epi32(_mm_bsrli_si128(v, 8)));
}
static inline __m512i cvtps_epi32(__m512 v) {
  const auto h = split<__m256>(v);
  return join<__m512i>(_mm256_cvtps_epi32(h.low), _mm256_cvtps_epi32(h.high));
}
static inline __m512 cvtepi32_ps(__m512i v) {
  const auto h = split<__m256i>(v);
  return join<__m512>(_mm256_cvtepi32_ps(h.low), _mm256_cvtepi32_ps(h.high));
}
static inline __m512i srai_epi32(__m512i v, int count) {
  const auto h = split<__m256i>(v);
  return join<__m512i>(_mm256_srai_epi32(h.low, count), _mm256_srai_epi32(h.high, count));
}
static inline __m512 permutevar_ps(__m512 v, __m512i order) {
  const auto h = split<__m256>(v);
  const auto o = split<__m256i>(order);
  return join<__m512>(_mm256_permutevar_ps(h.low, o.low), _mm256_permutevar_ps(h.high, o.high));
}
static inline __m512i zextsi256_si512(__m256i v) {
  return join<__m512i>(v, _mm256_setzero_si256());
}
// Reads nothing where the mask is 0, as the CPU.
static inline __m256i maskz_loadu_epi8(unsigned mask, const void* from) {
  char bytes[32];
  for (int i = 0; i < 32; ++i) bytes[i] = mask >> i & 1 ? static_cast<const char*>(from)[i] : 0;
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
}
template <class Fn>
static float reduce(__m512 v, Fn fn) {
  float lane[16];
  memcpy(lane, &v, sizeof lane);
  for (int width = 8; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) lane[i] = fn(lane[i], lane[i + width]);
  return lane[0];
}
static inline float reduce_add_ps(__m512 v) {
  return reduce(v, [](float a, float b) { return a + b; });
}
static inline float reduce_max_ps(__m512 v) {
  return reduce(v, [](float a, float b) { return a > b ? a : b; });
}

}  // namespace bitnet_simde

#define _mm512_cvtph_ps bitnet_simde::cvtph_ps
#define _mm512_cvtepi8_epi32 bitnet_simde::cvtepi8_epi32
#define _mm512_cvtps_epi32 bitnet_simde::cvtps_epi32
#define _mm512_cvtepi32_ps bitnet_simde::cvtepi32_ps
#define _mm512_srai_epi32 bitnet_simde::srai_epi32
#define _mm512_reduce_add_ps bitnet_simde::reduce_add_ps
#define _mm512_reduce_max_ps bitnet_simde::reduce_max_ps
#define _mm512_permutevar_ps bitnet_simde::permutevar_ps
#define _mm512_zextsi256_si512 bitnet_simde::zextsi256_si512
#define _mm256_maskz_loadu_epi8 bitnet_simde::maskz_loadu_epi8
