// Owns: the Python face of packing/.
#include <pybind11/stl.h>

#include <limits>

#include "bindings/arrays.h"
#include "packing/absmean.h"
#include "packing/formats.h"
#include "packing/int6.h"
#include "packing/int8.h"
#include "packing/ternary2.h"
#include "packing/trits5.h"

namespace bitnet {
namespace {

using std::int64_t;

std::vector<int64_t> packed_shape(const std::string& format, int64_t n, int64_t k) {
  const FormatInfo& info = format_by_name(format);
  check_arg(n >= 1 && k >= 1, "packed_shape", "expected n and k of at least 1, got ", n, " and ",
            k);
  return packed_shape(info, n, k);
}

std::vector<int64_t> scale_shape(const std::string& format, const std::string& kind_name, int64_t n,
                                 int64_t k) {
  const FormatInfo& info = format_by_name(format);
  const ScaleKind kind = scale_kind_by_name(kind_name);
  switch (kind) {
    case ScaleKind::kNone:
      return {};
    case ScaleKind::kTensor:
      return {1};
    case ScaleKind::kRow:
      return {padded_rows(info, n)};
    case ScaleKind::kGroup:
      break;
  }
  if (info.scales_by_panel)
    return {padded_rows(info, n) / info.panel_rows, ceil_div(k, info.group), info.panel_rows};
  return {ceil_div(k, info.group), padded_rows(info, n)};
}

py::list formats() {
  const py::object type =
      py::module_::import("collections")
          .attr("namedtuple")("FormatInfo",
                              "name panel_rows k_multiple packed int8_activations scale_kinds "
                              "group_size");
  py::list result;
  for (int i = 0; i < kNumFormats; ++i) {
    const FormatInfo& info = format_info(static_cast<Format>(i));
    py::list kinds;
    if (info.scale_tensor) kinds.append("tensor");
    if (info.scale_row) kinds.append("row");
    if (info.scale_group) kinds.append("group");
    result.append(type(info.name, info.panel_rows, info.k_multiple, info.packed,
                       info.int8_activations, py::tuple(kinds), info.group));
  }
  return result;
}

py::array_t<double> absmean_row_sums(const py::object& weight) {
  const auto w = require_array<float>(weight, "absmean_row_sums", "w", 2);
  const int64_t n = w.shape(0), k = w.shape(1);
  auto sums = new_array<double>({n});
  const float* in = w.data();
  double* out = sums.mutable_data();
  py::gil_scoped_release unlocked;
  absmean::row_abs_sums(in, n, k, out);
  return sums;
}

py::array_t<std::int8_t> absmean_quantize(const py::object& weight, const py::object& gamma) {
  const auto w = require_array<float>(weight, "absmean_quantize", "w", 2);
  const int64_t n = w.shape(0), k = w.shape(1);
  const bool per_row = py::isinstance<py::array>(gamma) && py::cast<py::array>(gamma).ndim() == 1;
  std::vector<float> scales(static_cast<std::size_t>(n));
  if (per_row) {
    const auto rows = require_array<float>(gamma, "absmean_quantize", "gamma", 1);
    require_shape(rows, "absmean_quantize", "gamma", {n});
    std::copy_n(rows.data(), n, scales.begin());
  } else {
    std::fill(scales.begin(), scales.end(), gamma.cast<float>());
  }
  for (const float scale : scales)
    check_arg(scale > 0 && scale <= std::numeric_limits<float>::max(), "absmean_quantize",
              "expected positive finite gamma, got ", scale);
  auto codes = new_array<std::int8_t>({n, k});
  const float* in = w.data();
  std::int8_t* out = codes.mutable_data();
  py::gil_scoped_release unlocked;
  for (int64_t row = 0; row < n; ++row)
    absmean::quantize(in + row * k, k, scales[static_cast<std::size_t>(row)], out + row * k);
  return codes;
}

py::tuple absmean_quantize_groups(const py::object& weight, bool round_f16) {
  const auto w = require_array<float>(weight, "absmean_quantize_groups", "w", 2);
  const int64_t n = w.shape(0), k = w.shape(1), groups = ceil_div(k, kGroupSize);
  auto codes = new_array<std::int8_t>({n, k});
  auto scale = new_array<float>({n, groups});
  const float* in = w.data();
  std::int8_t* out = codes.mutable_data();
  float* gamma = scale.mutable_data();
  {
    py::gil_scoped_release unlocked;
    for (int64_t row = 0; row < n; ++row)
      absmean::quantize_groups(in + row * k, k, round_f16, gamma + row * groups, out + row * k);
  }
  return py::make_tuple(codes, scale);
}

// pack_ternary2, pack_trits5, pack_int8 and pack_int6 differ only in the format and its pack
// function.
template <void (*pack)(const std::int8_t*, int64_t, int64_t, std::uint8_t*)>
py::array_t<std::uint8_t> pack_codes(const char* op, Format format, const py::object& codes) {
  const auto in = require_array<std::int8_t>(codes, op, "codes", 2);
  const int64_t n = in.shape(0), k = in.shape(1);
  const std::vector<int64_t> shape = packed_shape(format_info(format).name, n, k);
  auto packed = new_array<std::uint8_t>({shape[0], shape[1], shape[2]});
  const std::int8_t* from = in.data();
  std::uint8_t* to = packed.mutable_data();
  py::gil_scoped_release unlocked;
  pack(from, n, k, to);
  return packed;
}

template <void (*unpack)(const std::uint8_t*, int64_t, int64_t, std::int8_t*)>
py::array_t<std::int8_t> unpack_codes(const char* op, Format format, const py::object& packed,
                                      int64_t n, int64_t k) {
  const auto in = require_array<std::uint8_t>(packed, op, "packed", 3);
  require_shape(in, op, "packed", packed_shape(format_info(format).name, n, k));
  auto codes = new_array<std::int8_t>({n, k});
  const std::uint8_t* from = in.data();
  std::int8_t* to = codes.mutable_data();
  py::gil_scoped_release unlocked;
  unpack(from, n, k, to);
  return codes;
}

py::tuple quantize_int8_rows(const py::object& weight) {
  const auto w = require_array<float>(weight, "quantize_int8_rows", "w", 2);
  const int64_t n = w.shape(0), k = w.shape(1);
  auto codes = new_array<std::int8_t>({n, k});
  auto scale = new_array<float>({n});
  const float* in = w.data();
  std::int8_t* out = codes.mutable_data();
  float* scales = scale.mutable_data();
  {
    py::gil_scoped_release unlocked;
    int8::quantize_rows(in, n, k, out, scales);
  }
  return py::make_tuple(codes, scale);
}

py::tuple quantize_int6_groups(const py::object& weight) {
  const auto w = require_array<float>(weight, "quantize_int6_groups", "w", 2);
  const int64_t n = w.shape(0), k = w.shape(1);
  auto codes = new_array<std::int8_t>({n, k});
  auto scale = new_array<float>({n, ceil_div(k, int6::kGroup)});
  const float* in = w.data();
  std::int8_t* out = codes.mutable_data();
  float* scales = scale.mutable_data();
  bool fits = false;
  {
    py::gil_scoped_release unlocked;
    fits = int6::quantize_groups(in, n, k, out, scales);
  }
  check_arg(fits, "quantize_int6_groups", "expected weights whose scale fits float16");
  return py::make_tuple(codes, scale);
}

py::tuple as_tuple(const std::vector<int64_t>& shape) {
  py::list list;
  for (const int64_t extent : shape) list.append(extent);
  return py::tuple(list);
}

}  // namespace

void bind_packing(py::module_& m) {
  m.attr("GROUP_SIZE") = kGroupSize;
  m.def("formats", &formats);
  m.def(
      "packed_shape",
      [](const std::string& format, int64_t n, int64_t k) {
        return as_tuple(packed_shape(format, n, k));
      },
      py::arg("format"), py::arg("n"), py::arg("k"));
  m.def(
      "scale_shape",
      [](const std::string& format, const std::string& scale_kind, int64_t n, int64_t k) {
        return as_tuple(scale_shape(format, scale_kind, n, k));
      },
      py::arg("format"), py::arg("scale_kind"), py::arg("n"), py::arg("k"));
  m.def("absmean_row_sums", &absmean_row_sums, py::arg("w"));
  m.def("absmean_scale", &absmean::scale_from_sum, py::arg("abs_sum"), py::arg("count"));
  m.def("absmean_quantize", &absmean_quantize, py::arg("w"), py::arg("gamma"));
  m.def("absmean_quantize_groups", &absmean_quantize_groups, py::arg("w"), py::kw_only(),
        py::arg("round_f16") = true);
  m.def(
      "pack_ternary2",
      [](const py::object& t) {
        return pack_codes<ternary2::pack>("pack_ternary2", Format::kTernary2, t);
      },
      py::arg("t"));
  m.def(
      "unpack_ternary2",
      [](const py::object& packed, int64_t n, int64_t k) {
        return unpack_codes<ternary2::unpack>("unpack_ternary2", Format::kTernary2, packed, n, k);
      },
      py::arg("packed"), py::arg("n"), py::arg("k"));
  m.def(
      "pack_trits5",
      [](const py::object& t) {
        return pack_codes<trits5::pack>("pack_trits5", Format::kTrits5, t);
      },
      py::arg("t"));
  m.def(
      "unpack_trits5",
      [](const py::object& packed, int64_t n, int64_t k) {
        return unpack_codes<trits5::unpack>("unpack_trits5", Format::kTrits5, packed, n, k);
      },
      py::arg("packed"), py::arg("n"), py::arg("k"));
  m.def("quantize_int8_rows", &quantize_int8_rows, py::arg("w"));
  m.def(
      "pack_int8",
      [](const py::object& codes) {
        return pack_codes<int8::pack>("pack_int8", Format::kInt8, codes);
      },
      py::arg("codes"));
  m.def(
      "unpack_int8",
      [](const py::object& packed, int64_t n, int64_t k) {
        return unpack_codes<int8::unpack>("unpack_int8", Format::kInt8, packed, n, k);
      },
      py::arg("packed"), py::arg("n"), py::arg("k"));
  m.def("quantize_int6_groups", &quantize_int6_groups, py::arg("w"));
  m.def(
      "pack_int6",
      [](const py::object& codes) {
        return pack_codes<int6::pack>("pack_int6", Format::kInt6, codes);
      },
      py::arg("codes"));
  m.def(
      "unpack_int6",
      [](const py::object& packed, int64_t n, int64_t k) {
        return unpack_codes<int6::unpack>("unpack_int6", Format::kInt6, packed, n, k);
      },
      py::arg("packed"), py::arg("n"), py::arg("k"));
}

}  // namespace bitnet
