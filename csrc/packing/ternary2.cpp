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

void check_row(const char* op, const std::int8_t* t, std::int64_t k, std::int64_t row) {
  bool is_bad = false;
  for (std::int64_t col = 0; col < k; ++col) is_bad |= static_cast<std::uint8_t>(t[col] + 1) > 2;
  if (!is_bad) return;
  for (std::int64_t col = 0; col < k; ++col)
    check_arg(t[col] >= -1 && t[col] <= 1, op, "expected values -1, 0, 1, got ",
              static_cast<int>(t[col]), " at row ", row, ", column ", col);
}

// Codes of four neighbours of a row: bit 0 of a code is t == 0, bit 1 is t == 1.
inline std::uint32_t four_codes(const std::int8_t* t) {
  std::uint32_t bytes;
  std::memcpy(&bytes, t, sizeof bytes);
  const std::uint32_t is_even = ~bytes & 0x01010101u;
  const std::uint32_t is_plus = bytes & ~(bytes >> 7) & 0x01010101u;
  return is_even | is_plus << 1;
}

// Rows i, i+8, i+16, i+24 of a full panel; `row` is row i, `out` its first byte.
void pack_fields(const std::int8_t* row, std::int64_t k, std::int64_t cols, std::uint8_t* out) {
  for (std::int64_t col = 0; col < cols; col += kTileCols, out += kTileBytes) {
    std::uint32_t fields = 0;
    for (std::int64_t field = 0; field < kFields; ++field)
      fields |= four_codes(row + field * kFieldRows * k + col) << (2 * field);
    std::memcpy(out, &fields, sizeof fields);
  }
}

}  // namespace

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

void check_values(const char* op, const std::int8_t* t, std::int64_t n, std::int64_t k) {
  for (std::int64_t row = 0; row < n; ++row) check_row(op, t + row * k, k, row);
}

void pack(const std::int8_t* t, std::int64_t n, std::int64_t k, std::uint8_t* packed) {
  check_values("pack_ternary2", t, n, k);
  const FormatInfo& info = format_info(Format::kTernary2);
  const std::int64_t k_pad = padded_cols(info, k);
  std::memset(packed, kZeroByte, static_cast<std::size_t>(code_bytes(info, n, k)));
  const std::int64_t full_rows = n / kTileRows * kTileRows, full_cols = k / kTileCols * kTileCols;
  for (std::int64_t panel = 0; panel < full_rows; panel += kTileRows)
    for (std::int64_t i = 0; i < kFieldRows; ++i)
      pack_fields(t + (panel + i) * k, k, full_cols, packed + byte_of(panel + i, 0, k_pad));
  for (std::int64_t row = 0; row < n; ++row)
    for (std::int64_t col = row < full_rows ? full_cols : 0; col < k; ++col) {
      // The padding code is 1: adding t to the field turns it into t + 1 without touching others.
      std::uint8_t& byte = packed[byte_of(row, col, k_pad)];
      byte = static_cast<std::uint8_t>(byte + t[row * k + col] * (1 << shift_of(row)));
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
