// Owns: the list of weight formats, one line each. Everything that must know a format's name,
// panel, padding or scales asks here; nobody restates it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bitnet {

enum class Format : int { kF32, kF16, kBF16, kInt8, kTernary2, kTrits5, kInt6 };
inline constexpr int kNumFormats = 7;

// How `scale` multiplies the codes of a [N, K] weight. Groups run along K.
enum class ScaleKind : int { kNone, kTensor, kRow, kGroup };
inline constexpr std::int64_t kGroupSize = 128;  // of ternary weights, and of activation sums

struct FormatInfo {
  Format format;
  const char* name;         // as written in config.json
  std::int64_t panel_rows;  // rows that a kernel handles together; N is padded to it if packed
  std::int64_t k_multiple;  // K is padded to it (1: not padded)
  std::int64_t (*row_bytes)(std::int64_t k_pad);  // of a stored panel; if not packed, of a row
  std::int64_t tile_bytes;                        // the unit of a stored panel; 0: not packed
  bool packed;            // panels of tiles (true) or plain rows [N, K] (false)
  bool int8_activations;  // the product takes int8 activations (true) or float32 (false)
  bool scale_tensor, scale_row, scale_group;  // the kinds of scale it allows
  std::int64_t group;                         // columns that share a group scale
  bool scales_by_panel;  // group scales [N_pad/panel, groups, panel], else [groups, N_pad]
};

const FormatInfo& format_info(Format format);
const FormatInfo& format_by_name(const std::string& name);  // ValueError when unknown
ScaleKind scale_kind_by_name(const std::string& name);      // none, tensor, row, group
const char* scale_kind_name(ScaleKind kind);
bool allows_scale(const FormatInfo& info, ScaleKind kind);

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
inline std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

// Rows and columns as stored.
std::int64_t padded_rows(const FormatInfo& info, std::int64_t n);
std::int64_t padded_cols(const FormatInfo& info, std::int64_t k);
// The codes of an [n, k] weight: [N_pad / panel_rows, tiles of a panel, tile_bytes], or [n, k].
std::vector<std::int64_t> packed_shape(const FormatInfo& info, std::int64_t n, std::int64_t k);
// Their bytes.
std::int64_t code_bytes(const FormatInfo& info, std::int64_t n, std::int64_t k);
// Where the scale of row n, column k lies (kind tensor, row or group), and whose row element
// `index` of a scale per row or group is.
std::int64_t scale_index(const FormatInfo& info, ScaleKind kind, std::int64_t n_rows,
                         std::int64_t n_cols, std::int64_t n, std::int64_t k);
std::int64_t scale_row(const FormatInfo& info, ScaleKind kind, std::int64_t n_rows,
                       std::int64_t n_cols, std::int64_t index);
// Elements of its scale array: 0, 1, N_pad, or ceil(K/group) * N_pad.
std::int64_t scale_count(const FormatInfo& info, ScaleKind kind, std::int64_t n, std::int64_t k);

}  // namespace bitnet
