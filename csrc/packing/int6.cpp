#include "packing/int6.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/float16.h"
#include "packing/formats.h"

namespace bitnet::int6 {
namespace {

constexpr int kFirstDivisor = 28, kLastDivisor = 43;
constexpr float kLargestF16 = 65504.0f;

// To a whole number, halves to even, for |x| < 2^22. Unlike nearbyint it vectorizes everywhere.
inline float round_half_even(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: floats have no fraction there
  return (x + kMagic) - kMagic;
}

inline float code_of(float w, float inverse) {
  return std::max(-32.0f, std::min(31.0f, round_half_even(w * inverse)));
}

// Of `size` weights: their squared errors summed in eight lanes, then lane by lane.
float squared_error(const float* w, std::int64_t size, float scale) {
  const float inverse = 1.0f / scale;
  float lanes[8] = {};
  for (std::int64_t col = 0; col < size; ++col) {
    const float error = w[col] - scale * code_of(w[col], inverse);
    lanes[col % 8] += error * error;
  }
  float sum = 0.0f;
  for (const float lane : lanes) sum += lane;
  return sum;
}

// The scale of a group; 0 where there is none; negative where float16 has no room.
float group_scale(const float* w, std::int64_t size) {
  float largest = 0.0f;
  for (std::int64_t col = 0; col < size; ++col) largest = std::max(largest, std::fabs(w[col]));
  if (largest / kFirstDivisor > kLargestF16) return -1.0f;
  float best = 0.0f, least = 0.0f;
  for (int divisor = kFirstDivisor; divisor <= kLastDivisor; ++divisor) {
    const float scale = f16_to_float(float_to_f16(largest / static_cast<float>(divisor)));
    if (!(scale > 0.0f)) break;
    const float error = squared_error(w, size, scale);
    if (divisor > kFirstDivisor && !(error < least)) continue;
    best = scale;
    least = error;
  }
  return best;
}

// `a`: the byte of run A.
void put_code(std::uint8_t* a, std::int64_t run, int code) {
  if (run < 3) {
    std::uint8_t& byte = a[run * kRunBytes];
    byte = static_cast<std::uint8_t>((byte & 0xC0) | code);
    return;
  }
  for (int part = 0; part < 3; ++part) {
    std::uint8_t& byte = a[part * kRunBytes];
    byte = static_cast<std::uint8_t>((byte & 0x3F) | (code >> (4 - 2 * part) & 3) << 6);
  }
}

}  // namespace

bool quantize_groups(const float* w, std::int64_t n, std::int64_t k, std::int8_t* codes,
                     float* scale) {
  for (std::int64_t row = 0; row < n; ++row)
    for (std::int64_t begin = 0; begin < k; begin += kGroup) {
      const float* in = w + row * k + begin;
      std::int8_t* out = codes + row * k + begin;
      const std::int64_t size = std::min(kGroup, k - begin);
      const float best = group_scale(in, size);
      if (best < 0.0f) return false;
      *scale++ = best;
      const float inverse = best > 0.0f ? 1.0f / best : 0.0f;
      for (std::int64_t col = 0; col < size; ++col)
        out[col] = static_cast<std::int8_t>(code_of(in[col], inverse));
    }
  return true;
}

void pack(const std::int8_t* codes, std::int64_t n, std::int64_t k, std::uint8_t* packed) {
  const FormatInfo& info = format_info(Format::kInt6);
  const std::int64_t n_pad = padded_rows(info, n), k_pad = padded_cols(info, k);
  for (std::int64_t row = 0; row < n_pad; ++row) {
    std::uint8_t* a = packed + row / kTileRows * panel_bytes(k_pad) + row % kRunRows * 4;
    const std::int64_t run = row % kTileRows / kRunRows;
    for (std::int64_t col = 0; col < k_pad; ++col) {
      int code = kZeroCode;
      if (row < n && col < k) {
        const int value = codes[row * k + col];
        check_arg(value >= -32 && value <= 31, "pack_int6", "expected codes in [-32, 31], got ",
                  value, " at row ", row, ", column ", col);
        code += value;
      }
      put_code(a + col / kTileCols * kTileBytes + col % kTileCols, run, code);
    }
  }
}

void unpack(const std::uint8_t* packed, std::int64_t n, std::int64_t k, std::int8_t* codes) {
  const std::int64_t k_pad = padded_cols(format_info(Format::kInt6), k);
  for (std::int64_t row = 0; row < n; ++row)
    for (std::int64_t col = 0; col < k; ++col)
      codes[row * k + col] = static_cast<std::int8_t>(code_at(packed, row, col, k_pad) - kZeroCode);
}

std::int64_t find_fault(const std::uint8_t* packed, std::int64_t n, std::int64_t k,
                        std::int64_t panel_begin, std::int64_t panel_end) {
  const std::int64_t k_pad = padded_cols(format_info(Format::kInt6), k);
  for (std::int64_t row = panel_begin * kTileRows; row < panel_end * kTileRows; ++row)
    for (std::int64_t col = row < n ? k : 0; col < k_pad; ++col)
      if (code_at(packed, row, col, k_pad) != kZeroCode)
        return row / kTileRows * panel_bytes(k_pad) + col / kTileCols * kTileBytes;
  return -1;
}

}  // namespace bitnet::int6
