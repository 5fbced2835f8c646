#include "packing/ternary2.h"

#include <cstring>

#include "base/check.h"
#include "packing/formats.h"

namespace bitnet::ternary2 {
namespace {

// Any byte with a code 3 has both bits of a field set.
inline bool has_code3(std::uint64_t eight_codes) {
  return (eight_codes & (eight_codes >> 1) & 0x5555555555555555ull) != 0;
}

std::int64_t first_code3(const std::uint8_t* bytes, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + 64 <= count; i += 64) {
    std::uint64_t words[8];
    std::memcpy(words, bytes + i, 64);
    std::uint64_t bad = 0;
    for (const std::uint64_t word : words) bad |= word & (word >> 1);
    if (bad & 0x5555555555555555ull) break;
  }
  for (; i < count; ++i)
    if (has_code3(bytes[i])) return i;
  return -1;
}

}  // namespace

void pack(const std::int8_t* t, std::int64_t n, std::int64_t k, std::uint8_t* packed) {
  const FormatInfo& info = format_info(Format::kTernary2);
  const std::int64_t k_pad = padded_cols(info, k);
  std::memset(packed, kZeroByte, static_cast<std::size_t>(code_bytes(info, n, k)));
  for (std::int64_t row = 0; row < n; ++row) {
    const int shift = shift_of(row);
    for (std::int64_t col = 0; col < k; ++col) {
      const int value = t[row * k + col];
      check_arg(value >= -1 && value <= 1, "pack_ternary2", "expected values -1, 0, 1, got ", value,
                " at row ", row, ", column ", col);
      // The padding code is 1: adding t to the field turns it into t + 1 without touching others.
      std::uint8_t& byte = packed[byte_of(row, col, k_pad)];
      byte = static_cast<std::uint8_t>(byte + value * (1 << shift));
    }
  }
}

void unpack(const std::uint8_t* packed, std::int64_t n, std::int64_t k, std::int8_t* t) {
  const std::int64_t k_pad = padded_cols(format_info(Format::kTernary2), k);
  for (std::int64_t row = 0; row < n; ++row)
    for (std::int64_t col = 0; col < k; ++col)
      t[row * k + col] =
          static_cast<std::int8_t>(((packed[byte_of(row, col, k_pad)] >> shift_of(row)) & 3) - 1);
}

Fault find_fault(const std::uint8_t* packed, std::int64_t n, std::int64_t k,
                 std::int64_t panel_begin, std::int64_t panel_end) {
  const std::int64_t k_pad = padded_cols(format_info(Format::kTernary2), k);
  const std::int64_t bytes = panel_bytes(k_pad);
  const std::int64_t begin = panel_begin * bytes;
  const std::int64_t code3 = first_code3(packed + begin, (panel_end - panel_begin) * bytes);
  if (code3 >= 0) return {begin + code3, false};
  for (std::int64_t row = panel_begin * kTileRows; row < panel_end * kTileRows; ++row)
    for (std::int64_t col = row < n ? k : 0; col < k_pad; ++col) {
      const std::int64_t at = byte_of(row, col, k_pad);
      if (((packed[at] >> shift_of(row)) & 3) != 1) return {at, true};
    }
  return {};
}

}  // namespace bitnet::ternary2
