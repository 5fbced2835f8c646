#include "engine/weights.h"

#include <cmath>
#include <cstring>
#include <set>

#include "base/check.h"
#include "base/float16.h"
#include "engine/tensor_specs.h"
#include "packing/int6.h"
#include "packing/int8.h"
#include "packing/ternary2.h"
#include "packing/trits5.h"

namespace bitnet {
namespace {

constexpr const char* kOp = "model";

void check_tensor(const TensorSpec& spec, const TensorView& view) {
  const FormatInfo& info = format_info(view.format);
  const bool is_vector = spec.k == 0;
  check_arg(!is_vector || view.format == Format::kF32, kOp, "tensor '", spec.name,
            "': expected f32 ", "(norms and biases are), got ", info.name);
  check_arg(allows_scale(info, view.scale_kind), kOp, "tensor '", spec.name, "': format ",
            info.name, " does not take a scale per '", scale_kind_name(view.scale_kind), "'");
  const std::int64_t k = is_vector ? 1 : spec.k;
  check_arg(view.data_bytes == code_bytes(info, spec.n, k), kOp, "tensor '", spec.name,
            "': expected ", code_bytes(info, spec.n, k), " bytes of ", info.name, ", got ",
            view.data_bytes);
  check_arg(view.scale_count == scale_count(info, view.scale_kind, spec.n, k), kOp, "tensor '",
            spec.name, "': expected ", scale_count(info, view.scale_kind, spec.n, k),
            " scales, got ", view.scale_count);
  check_arg(!view.scale_is_f16 || view.scale_kind == ScaleKind::kGroup, kOp, "tensor '", spec.name,
            "': only group scales may be float16");
}

void validate_scales(const TensorSpec& spec, const TensorView& view) {
  const FormatInfo& info = format_info(view.format);
  for (std::int64_t i = 0; i < view.scale_count; ++i) {
    const float scale = view.scale_is_f16
                            ? f16_to_float(static_cast<const std::uint16_t*>(view.scale)[i])
                            : static_cast<const float*>(view.scale)[i];
    check_arg(std::isfinite(scale) && scale >= 0.0f, kOp, "tensor '", spec.name,
              "_scale': expected finite scales of at least 0, got ", scale, " at index ", i);
    const bool padded_row = view.scale_kind != ScaleKind::kTensor &&
                            scale_row(info, view.scale_kind, spec.n, spec.k, i) >= spec.n;
    check_arg(!padded_row || scale == 0.0f, kOp, "tensor '", spec.name,
              "_scale': expected 0 in padded rows, got ", scale, " at index ", i);
  }
}

void check_ternary(const TensorSpec& spec, const TensorView& view, const ternary2::Fault& fault) {
  const char* rule = fault.is_padding                   ? "expected code 1 in padding"
                     : view.format == Format::kTernary2 ? "expected codes 0, 1, 2, got 3"
                                                        : "expected codes 0, 1, 2, got no code";
  check_arg(fault.byte < 0, kOp, "tensor '", spec.name, "': ", rule, " at byte ", fault.byte);
}

void validate_codes(const TensorSpec& spec, const TensorView& view, ThreadPool& pool) {
  const FormatInfo& info = format_info(view.format);
  const std::int64_t panels = padded_rows(info, spec.n) / info.panel_rows;
  pool.parallel_for(panels, 1, [&](std::int64_t begin, std::int64_t end, int) {
    if (view.format == Format::kTernary2) {
      check_ternary(spec, view, ternary2::find_fault(view.data, spec.n, spec.k, begin, end));
    } else if (view.format == Format::kTrits5) {
      check_ternary(spec, view, trits5::find_fault(view.data, spec.n, spec.k, begin, end));
    } else if (view.format == Format::kInt6) {
      const std::int64_t fault = int6::find_fault(view.data, spec.n, spec.k, begin, end);
      check_arg(fault < 0, kOp, "tensor '", spec.name,
                "': expected code 32 in padding, in the tile at byte ", fault);
    } else {
      const std::int64_t fault = int8::find_fault(view.data, spec.n, spec.k, begin, end);
      check_arg(fault < 0, kOp, "tensor '", spec.name,
                "': expected codes in [-127, 127], and 0 in padding, at byte ", fault);
    }
  });
}

// Dense weights, norms and biases: NaN and infinity have all exponent bits set.
void validate_dense(const TensorSpec& spec, const TensorView& view, ThreadPool& pool) {
  const FormatInfo& info = format_info(view.format);
  const auto check_all = [&](const auto* bits, auto exponent) {
    const std::int64_t count = view.data_bytes / static_cast<std::int64_t>(sizeof *bits);
    pool.parallel_for(count, 4096, [&](std::int64_t begin, std::int64_t end, int) {
      bool bad = false;
      for (std::int64_t i = begin; i < end; ++i) bad |= (bits[i] & exponent) == exponent;
      check_arg(!bad, kOp, "tensor '", spec.name, "': expected finite ", info.name, " values");
    });
  };
  if (view.format == Format::kF32)
    check_all(reinterpret_cast<const std::uint32_t*>(view.data), std::uint32_t{0x7f800000});
  else if (view.format == Format::kF16)
    check_all(reinterpret_cast<const std::uint16_t*>(view.data), std::uint16_t{0x7c00});
  else
    check_all(reinterpret_cast<const std::uint16_t*>(view.data), std::uint16_t{0x7f80});
}

bool is_expanded(const TensorView& view, const KernelTable& kernels) {
  return view.format == Format::kTrits5 && !kernels.linear[static_cast<int>(view.format)];
}

// trits5 as ternary2; out: code_bytes(ternary2). Every code is looked at as it passes.
void expand_codes(const TensorSpec& spec, const TensorView& view, bool validate,
                  const KernelTable& kernels, ThreadPool& pool, std::uint8_t* out) {
  const FormatInfo& from = format_info(Format::kTrits5);
  const FormatInfo& to = format_info(Format::kTernary2);
  const std::int64_t k_pad = padded_cols(to, spec.k), tiles = k_pad / ternary2::kTileCols;
  pool.parallel_for(
      padded_rows(to, spec.n) / to.panel_rows, 1, [&](std::int64_t begin, std::int64_t end, int) {
        bool is_valid = true;
        for (std::int64_t panel = begin; panel < end; ++panel)
          is_valid &= kernels.expand_trits5(view.data + panel * from.row_bytes(k_pad), tiles,
                                            out + panel * to.row_bytes(k_pad));
        if (!validate) return;
        check_ternary(spec, view,
                      is_valid ? trits5::find_padding_fault(view.data, spec.n, spec.k, begin, end)
                               : trits5::find_fault(view.data, spec.n, spec.k, begin, end));
      });
}

}  // namespace

Weights build_weights(const ModelConfig& config, const std::map<std::string, TensorView>& stored,
                      bool validate, const KernelTable& kernels, ThreadPool& pool,
                      const std::function<void(const std::string& name)>& on_expanded) {
  std::map<std::string, TensorView> tensors = stored;
  std::map<std::string, TensorSpec> specs;
  for (const TensorSpec& spec : tensor_specs(config)) {
    check_arg(tensors.count(spec.name) == 1, kOp, "missing tensor '", spec.name, "'");
    check_tensor(spec, tensors.at(spec.name));
    specs.emplace(spec.name, spec);
  }
  for (const auto& [name, view] : tensors)
    check_arg(specs.count(name) == 1, kOp, "unexpected tensor '", name, "'");
  if (validate) {
    for (const auto& [name, spec] : specs) {
      const TensorView& view = tensors.at(name);
      if (!format_info(view.format).packed) {
        validate_dense(spec, view, pool);
        continue;
      }
      validate_scales(spec, view);
      if (!is_expanded(view, kernels)) validate_codes(spec, view, pool);
    }
  }

  Weights weights;
  std::int64_t expanded_bytes = 0;
  const FormatInfo& ternary = format_info(Format::kTernary2);
  for (const auto& [name, view] : tensors)
    if (is_expanded(view, kernels))
      expanded_bytes += code_bytes(ternary, specs.at(name).n, specs.at(name).k);
  weights.expanded = PageBuffer(expanded_bytes);
  std::uint8_t* next = weights.expanded.data();
  for (auto& [name, view] : tensors) {
    if (!is_expanded(view, kernels)) continue;
    const TensorSpec& spec = specs.at(name);
    expand_codes(spec, view, validate, kernels, pool, next);
    view.format = Format::kTernary2;
    view.data = next;
    view.data_bytes = code_bytes(ternary, spec.n, spec.k);
    next += view.data_bytes;
    on_expanded(name);
  }

  const auto vector = [&](const std::string& name) -> const float* {
    const auto found = tensors.find(name + ".weight");
    return found == tensors.end() ? nullptr : reinterpret_cast<const float*>(found->second.data);
  };
  const auto linear = [&](const std::string& name) {
    const TensorView& view = tensors.at(name + ".weight");
    const TensorSpec& spec = specs.at(name + ".weight");
    Linear result{view.format, view.scale_kind, view.scale_is_f16, spec.n,
                  spec.k,      view.data,       view.scale,        nullptr};
    const auto bias = tensors.find(name + ".bias");
    if (bias != tensors.end()) result.bias = reinterpret_cast<const float*>(bias->second.data);
    return result;
  };

  weights.embed_tokens = linear("model.embed_tokens");
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    LayerWeights w;
    w.input_layernorm = vector(layer + "input_layernorm");
    w.q_proj = linear(layer + "self_attn.q_proj");
    w.k_proj = linear(layer + "self_attn.k_proj");
    w.v_proj = linear(layer + "self_attn.v_proj");
    w.attn_sub_norm = vector(layer + "self_attn.attn_sub_norm");
    w.o_proj = linear(layer + "self_attn.o_proj");
    w.post_attention_layernorm = vector(layer + "post_attention_layernorm");
    w.gate_proj = linear(layer + "mlp.gate_proj");
    w.up_proj = linear(layer + "mlp.up_proj");
    w.ffn_sub_norm = vector(layer + "mlp.ffn_sub_norm");
    w.down_proj = linear(layer + "mlp.down_proj");
    weights.layers.push_back(w);
  }
  weights.norm = vector("model.norm");
  weights.lm_head = config.tie_word_embeddings ? weights.embed_tokens : linear("lm_head");
  return weights;
}

void dequantize_row(const Linear& w, std::int64_t row, float* out) {
  const FormatInfo& info = format_info(w.format);
  const std::int64_t k_pad = padded_cols(info, w.k);
  const auto scale_at = [&](std::int64_t col) {
    const std::int64_t index = scale_index(info, w.scale_kind, w.n, w.k, row, col);
    return w.scale_is_f16 ? f16_to_float(static_cast<const std::uint16_t*>(w.scale)[index])
                          : static_cast<const float*>(w.scale)[index];
  };
  switch (w.format) {
    case Format::kF32:
      std::memcpy(out, reinterpret_cast<const float*>(w.weight) + row * w.k,
                  static_cast<std::size_t>(w.k) * sizeof(float));
      return;
    case Format::kF16:
    case Format::kBF16: {
      const auto* half = reinterpret_cast<const std::uint16_t*>(w.weight) + row * w.k;
      const auto widen = w.format == Format::kF16 ? f16_to_float : bf16_to_float;
      for (std::int64_t col = 0; col < w.k; ++col) out[col] = widen(half[col]);
      return;
    }
    case Format::kInt8:
      for (std::int64_t col = 0; col < w.k; ++col)
        out[col] =
            scale_at(col) *
            static_cast<float>(static_cast<std::int8_t>(w.weight[int8::byte_of(row, col, k_pad)]));
      return;
    case Format::kTernary2:
      for (std::int64_t col = 0; col < w.k; ++col) {
        const int code =
            w.weight[ternary2::byte_of(row, col, k_pad)] >> ternary2::shift_of(row) & 3;
        out[col] = scale_at(col) * static_cast<float>(code - 1);
      }
      return;
    case Format::kTrits5:
      for (std::int64_t col = 0; col < w.k; ++col)
        out[col] =
            scale_at(col) * static_cast<float>(trits5::code_at(w.weight, row, col, k_pad) - 1);
      return;
    case Format::kInt6:
      for (std::int64_t col = 0; col < w.k; ++col)
        out[col] = scale_at(col) *
                   static_cast<float>(int6::code_at(w.weight, row, col, k_pad) - int6::kZeroCode);
      return;
  }
}

}  // namespace bitnet
