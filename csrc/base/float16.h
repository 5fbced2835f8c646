// Owns: scalar conversions between float32, float16 and bfloat16 (round to nearest even), for code
// that handles few values: kernels have vector instructions for it. Static, so that an ISA file
// that includes this defines nothing that a linker could give to others.
#pragma once

#include <cstdint>
#include <cstring>

namespace bitnet {

static inline float bits_to_float(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
static inline std::uint32_t float_to_bits(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float bf16_to_float(std::uint16_t half) {
  return bits_to_float(static_cast<std::uint32_t>(half) << 16);
}

static inline float f16_to_float(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t magnitude = half & 0x7fffu;
  // Exponent and mantissa moved into float32's place are off by 2^112; the product is exact, also
  // for subnormals. Infinity and NaN keep the full exponent.
  if (magnitude >= 0x7c00u) return bits_to_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  const float value = bits_to_float(magnitude << 13) * bits_to_float(0x77800000u);  // 2^112
  return bits_to_float(sign | float_to_bits(value));
}

static inline std::uint16_t float_to_f16(float value) {
  const std::uint32_t bits = float_to_bits(value);
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);   // NaN
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // >= 65520
  if (magnitude < 0x38800000u) {
    // Subnormal: adding 0.5 (whose ulp is 2^-24) rounds to float16's smallest step.
    const float shifted = bits_to_float(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (float_to_bits(shifted) - 0x3f000000u));
  }
  const std::uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

}  // namespace bitnet
