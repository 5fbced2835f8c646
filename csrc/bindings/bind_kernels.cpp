// Owns: the Python face of kernels/: one kernel table at a time, for tests and benches.
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/cpu_features.h"
#include "base/thread_pool.h"
#include "bindings/arrays.h"
#include "bindings/config_dict.h"
#include "engine/attention_cpu.h"
#include "engine/kv_cache.h"
#include "kernels/registry.h"
#include "packing/int8.h"

namespace bitnet {
namespace {

using std::int64_t;

// The weight of a linear layer as a checked array: uint8 tiles, or rows of float32 / uint16 /
// float16.
py::array require_weight(const FormatInfo& info, const py::object& weight, int64_t n, int64_t k) {
  check_arg(n >= 1 && k >= 1, "linear", "expected n and k of at least 1, got ", n, " and ", k);
  check_arg(info.format != Format::kInt8 || k <= int8::kMaxColumns, "linear",
            "expected k of at most ", int8::kMaxColumns, " for int8, got ", k);
  py::array array;
  std::vector<int64_t> shape{n, k};
  if (info.packed) {
    array = require_array<std::uint8_t>(weight, "linear", "weight", 3);
    shape = packed_shape(info, n, k);
  } else if (info.format == Format::kF32) {
    array = require_array<float>(weight, "linear", "weight", 2);
  } else {
    // bf16 has no numpy type and travels as uint16; float16 may travel either way.
    const bool is_f16 = info.format == Format::kF16 && py::isinstance<py::array>(weight) &&
                        py::cast<py::array>(weight).dtype().equal(py::dtype("float16"));
    array = require_array<std::uint16_t>(
        is_f16 ? py::object(weight.attr("view")("uint16")) : weight, "linear", "weight", 2);
  }
  require_shape(array, "linear", "weight", shape);
  return array;
}

// The scale of a linear layer as a checked array; an empty one for kNone.
py::array require_scale(const FormatInfo& info, ScaleKind kind, const py::object& scale, int64_t n,
                        int64_t k, bool* is_f16) {
  check_arg(allows_scale(info, kind), "linear", "expected a scale kind that ", info.name,
            " allows, got '", scale_kind_name(kind), "'");
  *is_f16 = false;
  if (kind == ScaleKind::kNone) {
    check_arg(scale.is_none(), "linear", "expected scale None for ", info.name);
    return {};
  }
  if (kind == ScaleKind::kGroup) {
    *is_f16 = py::isinstance<py::array>(scale) &&
              py::cast<py::array>(scale).dtype().equal(py::dtype("float16"));
    const std::int64_t groups = ceil_div(k, info.group), n_pad = padded_rows(info, n);
    std::vector<int64_t> shape{groups, n_pad};
    if (info.scales_by_panel) shape = {n_pad / info.panel_rows, groups, info.panel_rows};
    const int ndim = static_cast<int>(shape.size());
    const py::array array = *is_f16
                                ? py::array(require_array<std::uint16_t>(
                                      scale.attr("view")("uint16"), "linear", "scale", ndim))
                                : py::array(require_array<float>(scale, "linear", "scale", ndim));
    require_shape(array, "linear", "scale", shape);
    return array;
  }
  const py::array array = require_array<float>(scale, "linear", "scale", 1);
  require_shape(array, "linear", "scale", {scale_count(info, kind, n, k)});
  return array;
}

// Activations in the form of Int8Acts, owned.
struct QuantizedActs {
  int64_t stride, groups;
  std::vector<std::int8_t> q;
  std::vector<float> scale;
  std::vector<std::int32_t> group_sum;

  QuantizedActs(int64_t tokens, int64_t k)
      : stride(round_up(k, 8)),
        groups(ceil_div(k, kGroupSize)),
        q(static_cast<std::size_t>(tokens * stride)),
        scale(static_cast<std::size_t>(tokens)),
        group_sum(static_cast<std::size_t>(tokens * groups)) {}
  Int8Acts view() const { return {q.data(), stride, scale.data(), group_sum.data(), groups}; }
};

class Kernels {
 public:
  Kernels(const std::string& isa, int threads) : table_(select_table(isa)), pool_(threads) {}

  std::string isa() const { return table_.name; }

  std::vector<std::string> products() const {
    std::vector<std::string> names;
    for (int i = 0; i < kNumFormats; ++i)
      if (table_.linear[i]) names.emplace_back(format_info(static_cast<Format>(i)).name);
    return names;
  }

  py::tuple quantize_act(const py::object& input) {
    const auto x = require_array<float>(input, "quantize_act", "x", 2);
    const int64_t tokens = x.shape(0), k = x.shape(1);
    check_arg(k >= 1, "quantize_act", "expected at least one column");
    auto q = new_array<std::int8_t>({tokens, round_up(k, 8)});
    auto scale = new_array<float>({tokens});
    auto group_sum = new_array<std::int32_t>({tokens, ceil_div(k, kGroupSize)});
    const float* from = x.data();
    std::int8_t* codes = q.mutable_data();
    float* scales = scale.mutable_data();
    std::int32_t* sums = group_sum.mutable_data();
    {
      py::gil_scoped_release unlocked;
      quantize(from, tokens, k, codes, scales, sums);
    }
    return py::make_tuple(q, scale, group_sum);
  }

  py::array_t<std::int32_t> dot(const std::string& format, const py::object& weight, int64_t n,
                                int64_t k, const py::object& q) {
    const FormatInfo& info = require_product(format);
    check_arg(info.packed, "dot", "expected a packed format, got '", format, "'");
    const py::array codes = require_weight(info, weight, n, k);
    const auto in = require_array<std::int8_t>(q, "dot", "q", 2);
    const int64_t tokens = in.shape(0);
    require_shape(in, "dot", "q", {tokens, k});
    auto result = new_array<std::int32_t>({tokens, n});
    const auto* w = static_cast<const std::uint8_t*>(codes.data());
    const std::int8_t* from = in.data();
    std::int32_t* out = result.mutable_data();
    py::gil_scoped_release unlocked;
    QuantizedActs acts(tokens, k);
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t i = 0; i < k; ++i) {
        const std::int8_t value = from[t * k + i];
        acts.q[static_cast<std::size_t>(t * acts.stride + i)] = value;
        acts.group_sum[static_cast<std::size_t>(t * acts.groups + i / kGroupSize)] += value;
      }
    const DotFn kernel = table_.dot[static_cast<int>(info.format)];
    split_panels(info, n, [&](int64_t begin, int64_t end) {
      kernel(w, n, k, acts.view(), tokens, begin, end, out, n);
    });
    return result;
  }

  py::array_t<float> linear(const std::string& format, const py::object& weight,
                            const py::object& scale, const std::string& scale_kind, int64_t n,
                            int64_t k, const py::object& input) {
    const FormatInfo& info = require_product(format);
    const py::array w = require_weight(info, weight, n, k);
    LinearArgs args{};
    args.scale_kind = scale_kind_by_name(scale_kind);
    const py::array s = require_scale(info, args.scale_kind, scale, n, k, &args.scale_is_f16);
    const auto x = require_array<float>(input, "linear", "x", 2);
    const int64_t tokens = x.shape(0);
    require_shape(x, "linear", "x", {tokens, k});
    auto result = new_array<float>({tokens, n});
    args.weight = static_cast<const std::uint8_t*>(w.data());
    args.scale = s.data();
    args.n = n;
    args.k = k;
    args.tokens = tokens;
    args.x = x.data();
    args.x_stride = k;
    args.out = result.mutable_data();
    args.out_stride = n;
    py::gil_scoped_release unlocked;
    QuantizedActs acts(tokens, info.int8_activations ? k : 0);
    if (info.int8_activations) {
      quantize(args.x, tokens, k, acts.q.data(), acts.scale.data(), acts.group_sum.data());
      args.acts = acts.view();
    }
    split_panels(info, n, [&](int64_t begin, int64_t end) {
      table_.linear[static_cast<int>(info.format)](args, begin, end);
    });
    return result;
  }

  py::tuple expand_trits5(const py::object& packed, int64_t n, int64_t k) {
    const FormatInfo& info = format_info(Format::kTrits5);
    const py::array codes = require_weight(info, packed, n, k);
    const std::vector<int64_t> shape = packed_shape(format_info(Format::kTernary2), n, k);
    auto result = new_array<std::uint8_t>({shape[0], shape[1], shape[2]});
    const auto* from = static_cast<const std::uint8_t*>(codes.data());
    std::uint8_t* out = result.mutable_data();
    std::atomic<bool> is_valid{true};
    {
      py::gil_scoped_release unlocked;
      const int64_t bytes = info.row_bytes(padded_cols(info, k));
      pool_.parallel_for(shape[0], 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i)
          if (!table_.expand_trits5(from + i * bytes, shape[1], out + i * shape[1] * shape[2]))
            is_valid = false;
      });
    }
    return py::make_tuple(result, is_valid.load());
  }

  py::array_t<float> rms_norm(const py::object& input, const py::object& weight, float eps) {
    const auto x = require_array<float>(input, "rms_norm", "x", 2);
    const auto w = require_array<float>(weight, "rms_norm", "weight", 1);
    const int64_t rows = x.shape(0), n = x.shape(1);
    require_shape(w, "rms_norm", "weight", {n});
    auto result = new_array<float>({rows, n});
    const float *from = x.data(), *gain = w.data();
    float* out = result.mutable_data();
    py::gil_scoped_release unlocked;
    pool_.parallel_for(rows, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i)
        table_.rms_norm(from + i * n, gain, eps, n, out + i * n);
    });
    return result;
  }

  py::array_t<float> rope(const py::object& input, const py::object& cos, const py::object& sin) {
    const auto x = require_array<float>(input, "rope", "x", 2);
    const int64_t heads = x.shape(0), dim = x.shape(1);
    check_arg(dim % 2 == 0, "rope", "expected an even head_dim, got ", dim);
    const auto c = require_array<float>(cos, "rope", "cos", 1);
    const auto s = require_array<float>(sin, "rope", "sin", 1);
    require_shape(c, "rope", "cos", {dim / 2});
    require_shape(s, "rope", "sin", {dim / 2});
    auto result = new_array<float>({heads, dim});
    const float *from = x.data(), *cosines = c.data(), *sines = s.data();
    float* out = result.mutable_data();
    py::gil_scoped_release unlocked;
    std::copy_n(from, heads * dim, out);
    pool_.parallel_for(heads, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) table_.rope(out + i * dim, cosines, sines, dim);
    });
    return result;
  }

  py::array_t<float> gated_activation(const std::string& act, const py::object& gate,
                                      const py::object& up) {
    const Activation activation = activation_by_name("act", act);
    const auto g = require_array<float>(gate, "gated_activation", "gate", 1);
    const auto u = require_array<float>(up, "gated_activation", "up", 1);
    const int64_t n = g.shape(0);
    require_shape(u, "gated_activation", "up", {n});
    auto result = new_array<float>({n});
    const float *gates = g.data(), *ups = u.data();
    float* out = result.mutable_data();
    py::gil_scoped_release unlocked;
    pool_.parallel_for(n, 1, [&](int64_t begin, int64_t end, int) {
      table_.gated_activation(activation, gates + begin, ups + begin, end - begin, out + begin);
    });
    return result;
  }

  py::array_t<float> attend(const py::object& query, const py::object& key, const py::object& value,
                            const std::vector<int64_t>& n_keys, const std::string& kv_dtype) {
    const auto q = require_array<float>(query, "attend", "q", 2);
    const auto k = require_array<float>(key, "attend", "k", 2);
    const auto v = require_array<float>(value, "attend", "v", 2);
    const int64_t queries = q.shape(0), dim = q.shape(1), keys = k.shape(0);
    require_shape(k, "attend", "k", {keys, dim});
    require_shape(v, "attend", "v", {keys, dim});
    check_arg(keys >= 1, "attend", "expected keys, got none");
    check_arg(static_cast<int64_t>(n_keys.size()) == queries, "attend", "expected ", queries,
              " n_keys, got ", n_keys.size());
    for (const int64_t count : n_keys)
      check_arg(count >= 1 && count <= keys, "attend", "expected n_keys in [1, ", keys, "], got ",
                count);
    const KvType type = kv_type_by_name(kv_dtype);
    auto result = new_array<float>({queries, dim});
    const float *from = q.data(), *k_from = k.data(), *v_from = v.data();
    float* out = result.mutable_data();
    py::gil_scoped_release unlocked;
    ModelConfig config;
    config.num_hidden_layers = config.num_key_value_heads = 1;
    config.head_dim = dim;
    KvCache cache(config, keys, type);
    const KvHead head = cache.head(0, 0);
    for (int64_t i = 0; i < keys; ++i) table_.store_kv(k_from + i * dim, v_from + i * dim, head, i);
    std::vector<AttendItem> items;
    for (int64_t i = 0; i < queries; ++i) {
      if (i % AttendItem::kMaxQueries == 0) {
        items.emplace_back().kv = head;
        items.back().queries = 0;
      }
      AttendItem& item = items.back();
      item.q[item.queries] = from + i * dim;
      item.out[item.queries] = out + i * dim;
      item.n_keys[item.queries++] = n_keys[static_cast<std::size_t>(i)];
    }
    CpuAttention(table_, pool_, dim).run(items);
    return result;
  }

 private:
  void quantize(const float* x, int64_t tokens, int64_t k, std::int8_t* q, float* scale,
                std::int32_t* group_sum) {
    pool_.parallel_for(tokens, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t)
        table_.quantize_act(x + t * k, k, q + t * round_up(k, 8), scale + t,
                            group_sum + t * ceil_div(k, kGroupSize));
    });
  }

  const FormatInfo& require_product(const std::string& format) const {
    const FormatInfo& info = format_by_name(format);
    check_arg(table_.linear[static_cast<int>(info.format)] != nullptr, "linear",
              "expected a format that ", table_.name, " multiplies, got '", format, "'");
    return info;
  }

  template <class Fn>
  void split_panels(const FormatInfo& info, int64_t n, const Fn& fn) {
    pool_.parallel_for(ceil_div(n, info.panel_rows), 1,
                       [&](int64_t begin, int64_t end, int) { fn(begin, end); });
  }

  const KernelTable& table_;
  ThreadPool pool_;
};

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const KernelTable* table : available_tables()) names.emplace_back(table->name);
  return names;
}

}  // namespace

void bind_kernels(py::module_& m) {
  m.attr("KEY_BLOCK") = kKeyBlock;
  m.def("available_isas", &available_isas);
  m.def("compiled_isas", &compiled_isas);
  m.def("cpu_features", &cpu_feature_names);
  m.def("cpu_brand", &cpu_brand);
  py::class_<Kernels>(m, "Kernels")
      .def(py::init<const std::string&, int>(), py::arg("isa") = "", py::arg("threads") = 1)
      .def_property_readonly("isa", &Kernels::isa)
      .def_property_readonly("products", &Kernels::products)
      .def("quantize_act", &Kernels::quantize_act, py::arg("x"))
      .def("dot", &Kernels::dot, py::arg("format"), py::arg("weight"), py::arg("n"), py::arg("k"),
           py::arg("q"))
      .def("linear", &Kernels::linear, py::arg("format"), py::arg("weight"), py::arg("scale"),
           py::arg("scale_kind"), py::arg("n"), py::arg("k"), py::arg("x"))
      .def("expand_trits5", &Kernels::expand_trits5, py::arg("packed"), py::arg("n"), py::arg("k"))
      .def("rms_norm", &Kernels::rms_norm, py::arg("x"), py::arg("weight"), py::arg("eps"))
      .def("rope", &Kernels::rope, py::arg("x"), py::arg("cos"), py::arg("sin"))
      .def("gated_activation", &Kernels::gated_activation, py::arg("act"), py::arg("gate"),
           py::arg("up"))
      .def("attend", &Kernels::attend, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("n_keys"),
           py::kw_only(), py::arg("kv_dtype") = "f32");
}

}  // namespace bitnet
