#include "packing/formats.h"

#include "base/check.h"
#include "packing/int6.h"
#include "packing/int8.h"
#include "packing/trits5.h"

namespace bitnet {
namespace {

template <int kBytes>
constexpr std::int64_t dense_row(std::int64_t k) {
  return k * kBytes;
}

//   format, name, panel, k, bytes of a row, of a tile; packed, int8 activations; scales per tensor,
//   row, group; columns of a group, scales by panel
constexpr FormatInfo kFormats[kNumFormats] = {
    {Format::kF32, "f32", 8, 1, dense_row<4>, 0, false, false, false, false, false, 0, false},
    {Format::kF16, "f16", 8, 1, dense_row<2>, 0, false, false, false, false, false, 0, false},
    {Format::kBF16, "bf16", 8, 1, dense_row<2>, 0, false, false, false, false, false, 0, false},
    {Format::kInt8, "int8", 8, 8, int8::panel_bytes, 32, true, true, false, true, false, 0, false},
    {Format::kTernary2, "ternary2", 32, 8, ternary2::panel_bytes, 32, true, true, true, true, true,
     kGroupSize, false},
    {Format::kTrits5, "trits5", 32, 8, trits5::panel_bytes, 32, true, true, true, true, true,
     kGroupSize, false},
    {Format::kInt6, "int6", 32, 8, int6::panel_bytes, int6::kTileBytes, true, true, false, false,
     true, int6::kGroup, true},
};
constexpr const char* kScaleNames[] = {"none", "tensor", "row", "group"};

}  // namespace

const FormatInfo& format_info(Format format) { return kFormats[static_cast<int>(format)]; }

const FormatInfo& format_by_name(const std::string& name) {
  for (const FormatInfo& info : kFormats)
    if (name == info.name) return info;
  std::string known;
  for (const FormatInfo& info : kFormats)
    known += std::string(known.empty() ? "" : ", ") + info.name;
  check_arg(false, "format", "expected one of ", known, ", got '", name, "'");
  return kFormats[0];
}

ScaleKind scale_kind_by_name(const std::string& name) {
  for (int i = 0; i < 4; ++i)
    if (name == kScaleNames[i]) return static_cast<ScaleKind>(i);
  check_arg(false, "scale", "expected one of none, tensor, row, group, got '", name, "'");
  return ScaleKind::kNone;
}

const char* scale_kind_name(ScaleKind kind) { return kScaleNames[static_cast<int>(kind)]; }

bool allows_scale(const FormatInfo& info, ScaleKind kind) {
  switch (kind) {
    case ScaleKind::kNone:
      return !info.packed;
    case ScaleKind::kTensor:
      return info.scale_tensor;
    case ScaleKind::kRow:
      return info.scale_row;
    case ScaleKind::kGroup:
      return info.scale_group;
  }
  return false;
}

std::int64_t padded_rows(const FormatInfo& info, std::int64_t n) {
  return info.packed ? round_up(n, info.panel_rows) : n;
}

std::int64_t padded_cols(const FormatInfo& info, std::int64_t k) {
  return round_up(k, info.k_multiple);
}

std::vector<std::int64_t> packed_shape(const FormatInfo& info, std::int64_t n, std::int64_t k) {
  if (!info.packed) return {n, k};
  const std::int64_t tiles = info.row_bytes(padded_cols(info, k)) / info.tile_bytes;
  return {padded_rows(info, n) / info.panel_rows, tiles, info.tile_bytes};
}

std::int64_t code_bytes(const FormatInfo& info, std::int64_t n, std::int64_t k) {
  const std::int64_t rows = info.packed ? padded_rows(info, n) / info.panel_rows : n;
  return rows * info.row_bytes(padded_cols(info, k));
}

std::int64_t scale_index(const FormatInfo& info, ScaleKind kind, std::int64_t n_rows,
                         std::int64_t n_cols, std::int64_t n, std::int64_t k) {
  if (kind == ScaleKind::kTensor) return 0;
  if (kind == ScaleKind::kRow) return n;
  const std::int64_t group = k / info.group, rows = info.panel_rows;
  if (info.scales_by_panel)
    return (n / rows * ceil_div(n_cols, info.group) + group) * rows + n % rows;
  return group * padded_rows(info, n_rows) + n;
}

std::int64_t scale_row(const FormatInfo& info, ScaleKind kind, std::int64_t n_rows,
                       std::int64_t n_cols, std::int64_t index) {
  const std::int64_t rows = info.panel_rows;
  if (kind == ScaleKind::kGroup && info.scales_by_panel)
    return index / (ceil_div(n_cols, info.group) * rows) * rows + index % rows;
  return index % padded_rows(info, n_rows);
}

std::int64_t scale_count(const FormatInfo& info, ScaleKind kind, std::int64_t n, std::int64_t k) {
  switch (kind) {
    case ScaleKind::kNone:
      return 0;
    case ScaleKind::kTensor:
      return 1;
    case ScaleKind::kRow:
      return padded_rows(info, n);
    case ScaleKind::kGroup:
      return ceil_div(k, info.group) * padded_rows(info, n);
  }
  return 0;
}

}  // namespace bitnet
