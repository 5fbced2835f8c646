#include "packing/int8.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "packing/formats.h"

namespace bitnet::int8 {

void quantize_rows(const float* w, std::int64_t n, std::int64_t k, std::int8_t* codes,
                   float* scale) {
  for (std::int64_t row = 0; row < n; ++row) {
    const float* in = w + row * k;
    std::int8_t* out = codes + row * k;
    float largest = 0.0f;
    for (std::int64_t col = 0; col < k; ++col) largest = std::max(largest, std::fabs(in[col]));
    scale[row] = largest / 127.0f;
    // A row so small that its scale is not a normal number is a zero row.
    if (!(scale[row] >= 1.17549435e-38f)) {
      scale[row] = 0.0f;
      std::fill(out, out + k, std::int8_t{0});
      continue;
    }
    for (std::int64_t col = 0; col < k; ++col)
      out[col] = static_cast<std::int8_t>(
          std::max(-127.0f, std::min(127.0f, std::nearbyint(in[col] / scale[row]))));
  }
}

void pack(const std::int8_t* codes, std::int64_t n, std::int64_t k, std::uint8_t* packed) {
  const FormatInfo& info = format_info(Format::kInt8);
  const std::int64_t k_pad = padded_cols(info, k);
  std::memset(packed, 0, static_cast<std::size_t>(code_bytes(info, n, k)));
  for (std::int64_t row = 0; row < n; ++row)
    for (std::int64_t col = 0; col < k; ++col) {
      const std::int8_t code = codes[row * k + col];
      check_arg(code != -128, "pack_int8", "expected codes in [-127, 127], got -128 at row ", row,
                ", column ", col);
      packed[byte_of(row, col, k_pad)] = static_cast<std::uint8_t>(code);
    }
}

void unpack(const std::uint8_t* packed, std::int64_t n, std::int64_t k, std::int8_t* codes) {
  const std::int64_t k_pad = padded_cols(format_info(Format::kInt8), k);
  for (std::int64_t row = 0; row < n; ++row)
    for (std::int64_t col = 0; col < k; ++col)
      codes[row * k + col] = static_cast<std::int8_t>(packed[byte_of(row, col, k_pad)]);
}

std::int64_t find_fault(const std::uint8_t* packed, std::int64_t n, std::int64_t k,
                        std::int64_t panel_begin, std::int64_t panel_end) {
  const std::int64_t k_pad = padded_cols(format_info(Format::kInt8), k);
  const std::int64_t begin = panel_begin * panel_bytes(k_pad);
  const std::int64_t end = panel_end * panel_bytes(k_pad);
  for (std::int64_t block = begin; block < end; block += kTileBytes) {
    bool bad = false;  // no early exit inside a tile: this loop vectorizes
    for (std::int64_t i = 0; i < kTileBytes; ++i) bad |= packed[block + i] == 0x80;
    if (!bad) continue;
    for (std::int64_t i = 0; i < kTileBytes; ++i)
      if (packed[block + i] == 0x80) return block + i;
  }
  for (std::int64_t row = panel_begin * kTileRows; row < panel_end * kTileRows; ++row)
    for (std::int64_t col = row < n ? k : 0; col < k_pad; ++col)
      if (packed[byte_of(row, col, k_pad)] != 0) return byte_of(row, col, k_pad);
  return -1;
}

}  // namespace bitnet::int8
