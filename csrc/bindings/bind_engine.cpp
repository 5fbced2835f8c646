// Owns: the Python face of Model and Session. Checks arguments, drops the GIL, calls.
#include <pybind11/stl.h>

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "bindings/arrays.h"
#include "bindings/config_dict.h"
#include "engine/decoder.h"
#include "kernels/registry.h"

namespace bitnet {
namespace {

using std::int64_t;

// ---- Model

// A C-contiguous, aligned array of exactly this dtype (numpy's name for it).
py::array require_stored(const std::string& tensor, const char* what, const py::handle& value,
                         const char* dtype) {
  check_arg(py::isinstance<py::array>(value), "model", "tensor '", tensor, "': expected ", what,
            " to be a numpy array");
  const auto array = py::reinterpret_borrow<py::array>(value);
  check_arg(array.dtype().equal(py::dtype(dtype)), "model", "tensor '", tensor, "': expected ",
            what, " of dtype ", dtype, ", got ", std::string(py::str(array.dtype())));
  const auto address = reinterpret_cast<std::uintptr_t>(array.data());
  check_arg((array.flags() & py::array::c_style) != 0 &&
                address % static_cast<std::uintptr_t>(array.itemsize()) == 0,
            "model", "tensor '", tensor, "': expected ", what, " to be C-contiguous and aligned");
  return array;
}

const char* stored_dtype(const FormatInfo& info) {
  switch (info.format) {
    case Format::kF32:
      return "float32";
    case Format::kF16:
      return "float16";
    case Format::kBF16:
      return "uint16";  // numpy has no bfloat16
    default:
      return "uint8";
  }
}

// (format, data, scale | None, scale kind) as a view. Types are checked here, sizes and names by
// build_weights. The arrays that it views are added to `kept`.
TensorView tensor_view(const std::string& name, const py::handle& value,
                       std::vector<py::array>& kept) {
  const bool is_tuple = py::isinstance<py::tuple>(value) && py::len(value) == 4;
  check_arg(is_tuple && py::isinstance<py::str>(value[py::int_(0)]) &&
                py::isinstance<py::str>(value[py::int_(3)]),
            "model", "tensor '", name, "': expected (format, data, scale, scale kind)");
  const auto fields = py::reinterpret_borrow<py::tuple>(value);
  const FormatInfo& info = format_by_name(fields[0].cast<std::string>());
  kept.push_back(require_stored(name, "data", fields[1], stored_dtype(info)));
  TensorView view{info.format,
                  scale_kind_by_name(fields[3].cast<std::string>()),
                  static_cast<const std::uint8_t*>(kept.back().data()),
                  kept.back().nbytes(),
                  nullptr,
                  0,
                  false};
  if (fields[2].is_none()) return view;
  view.scale_is_f16 = py::isinstance<py::array>(fields[2]) &&
                      py::cast<py::array>(fields[2]).dtype().equal(py::dtype("float16"));
  kept.push_back(
      require_stored(name, "scale", fields[2], view.scale_is_f16 ? "float16" : "float32"));
  view.scale = kept.back().data();
  view.scale_count = kept.back().size();
  return view;
}

// Ctrl-C: looks for signals between layers, though not oftener than a person notices.
class SignalPoll {
 public:
  void operator()() {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return;
    next_ = now + std::chrono::milliseconds(20);
    py::gil_scoped_acquire locked;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }

 private:
  std::chrono::steady_clock::time_point next_ =
      std::chrono::steady_clock::now() + std::chrono::milliseconds(20);
};

class PyModel {
 public:
  PyModel(const py::dict& config_values, const py::dict& tensors, const std::string& isa,
          int threads, bool validate, const py::object& on_expanded)
      : config_(config_from_dict(config_values)),
        kernels_(select_table(isa)),
        pool_(threads == 0 ? default_threads() : threads) {
    std::map<std::string, TensorView> views;
    for (const auto& item : tensors) {
      const auto name = py::cast<std::string>(item.first);
      views.emplace(name, tensor_view(name, item.second, kept_));
    }
    py::gil_scoped_release unlocked;
    weights_ =
        build_weights(config_, views, validate, kernels_, pool_, [&](const std::string& name) {
          py::gil_scoped_acquire locked;
          if (!on_expanded.is_none()) on_expanded(name);
        });
    ops_ = make_cpu_ops(config_, kernels_, pool_);
    decoder_ = std::make_unique<Decoder>(config_, weights_, *ops_);
  }

  // fn() without the GIL, one at a time: whatever touches the decoder or a cache goes through here,
  // so Python threads may share a model and even a session.
  template <class Fn>
  void exclusively(const Fn& fn) {
    py::gil_scoped_release unlocked;
    std::lock_guard<std::mutex> turn(turn_);
    fn();
  }
  Decoder& decoder() { return *decoder_; }

  const ModelConfig& config() const { return config_; }
  const char* isa() const { return kernels_.name; }
  int threads() const { return pool_.threads(); }

 private:
  static int default_threads() {
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  const ModelConfig config_;
  const KernelTable& kernels_;
  ThreadPool pool_;
  std::vector<py::array> kept_;  // what weights_ views
  Weights weights_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<Decoder> decoder_;
  std::mutex turn_;
};

// ---- Session

struct PySession {
  PySession(std::shared_ptr<PyModel> owner, int64_t max_seq_len, const std::string& kv_dtype)
      : model(std::move(owner)), cache(model->config(), max_seq_len, kv_type_by_name(kv_dtype)) {}

  void truncate(int64_t length) {
    model->exclusively([&] {
      check_arg(length >= 0 && length <= cache.length(), "truncate", "expected a length in [0, ",
                cache.length(), "], got ", length);
      cache.set_length(length);
    });
  }

  // copy(offset of a row in exported bytes, head, token) for rows [0, length) of every head.
  template <class Copy>
  void each_row(int64_t length, const Copy& copy) {
    for (int64_t layer = 0; layer < cache.layers(); ++layer)
      for (int64_t head = 0; head < cache.heads(); ++head)
        for (int64_t token = 0; token < length; ++token)
          copy(((layer * cache.heads() + head) * length + token) * cache.row_bytes(),
               cache.head(layer, head), token);
  }

  py::tuple export_kv() {
    const int64_t row = cache.row_bytes(), length = cache.length();
    auto k = new_array<std::uint8_t>({cache.layers(), cache.heads(), length, row});
    auto v = new_array<std::uint8_t>({cache.layers(), cache.heads(), length, row});
    std::uint8_t *to_k = k.mutable_data(), *to_v = v.mutable_data();
    model->exclusively([&] {
      each_row(length, [&](int64_t at, const KvHead& head, int64_t token) {
        cache.read_row(head, token, to_k + at, to_v + at);
      });
    });
    return py::make_tuple(k, v);
  }

  void import_kv(const py::object& k_value, const py::object& v_value) {
    const auto k = require_array<std::uint8_t>(k_value, "import_kv", "k", 4);
    const auto v = require_array<std::uint8_t>(v_value, "import_kv", "v", 4);
    const int64_t row = cache.row_bytes(), length = k.shape(2);
    require_shape(k, "import_kv", "k", {cache.layers(), cache.heads(), length, row});
    require_shape(v, "import_kv", "v", {cache.layers(), cache.heads(), length, row});
    check_arg(length <= cache.capacity(), "import_kv", "expected at most ", cache.capacity(),
              " tokens, got ", length);
    const std::uint8_t *from_k = k.data(), *from_v = v.data();
    model->exclusively([&] {
      each_row(length, [&](int64_t at, const KvHead& head, int64_t token) {
        cache.write_row(head, token, from_k + at, from_v + at);
      });
      cache.set_length(length);
    });
  }

  std::shared_ptr<PyModel> model;
  KvCache cache;
};

std::vector<std::int32_t> token_ids(const py::handle& value, int64_t vocab) {
  std::vector<std::int32_t> ids;
  if (py::isinstance<py::array>(value)) {
    const auto array = require_array<std::int32_t>(value, "forward", "token_ids", 1);
    ids.assign(array.data(), array.data() + array.size());
  } else {
    try {
      ids = value.cast<std::vector<std::int32_t>>();
    } catch (const py::cast_error&) {
      check_arg(false, "forward", "expected token_ids as int32 array or a sequence of ints");
    }
  }
  check_arg(!ids.empty(), "forward", "expected at least one token, got none");
  for (const std::int32_t id : ids)
    check_arg(id >= 0 && id < vocab, "forward", "expected token ids in [0, ", vocab, "), got ", id);
  return ids;
}

py::array_t<float> forward_batch(const std::vector<std::shared_ptr<PySession>>& sessions,
                                 const std::vector<py::object>& ids, const std::string& logits) {
  constexpr const char* kNames[] = {"none", "last", "all"};
  const LogitRows want = enum_by_name<LogitRows>("logits", logits, kNames);
  check_arg(!sessions.empty() && sessions.size() == ids.size(), "forward",
            "expected one list of token ids per session, got ", sessions.size(), " sessions and ",
            ids.size(), " lists");
  PyModel& model = *sessions[0]->model;
  std::vector<std::vector<std::int32_t>> kept;
  std::vector<SequenceInput> inputs;
  int64_t tokens = 0;
  for (std::size_t i = 0; i < sessions.size(); ++i) {
    PySession& session = *sessions[i];
    check_arg(session.model.get() == &model, "forward", "expected sessions of one model");
    for (std::size_t j = 0; j < i; ++j)
      check_arg(sessions[j] != sessions[i], "forward", "expected each session once");
    kept.push_back(token_ids(ids[i], model.config().vocab_size));
    const auto count = static_cast<int64_t>(kept.back().size());
    inputs.push_back({&session.cache, nullptr, count});
    tokens += count;
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i].ids = kept[i].data();
  const int64_t rows = want == LogitRows::kAll    ? tokens
                       : want == LogitRows::kLast ? static_cast<int64_t>(inputs.size())
                                                  : 0;
  auto out = new_array<float>({rows, model.config().vocab_size});
  float* to = out.mutable_data();
  model.exclusively([&] {
    for (const SequenceInput& input : inputs)
      check_arg(input.cache->length() + input.count <= input.cache->capacity(), "forward",
                "the context is full: ", input.cache->length(), " tokens are there and ",
                input.count, " more do not fit in max_seq_len ", input.cache->capacity());
    model.decoder().forward(inputs, want, to, SignalPoll{});
  });
  return out;
}

}  // namespace

void bind_engine(py::module_& m) {
  m.attr("PackedTensor") = py::module_::import("collections")
                               .attr("namedtuple")("PackedTensor", "format data scale scale_kind");

  py::class_<PyModel, std::shared_ptr<PyModel>>(m, "Model")
      .def(py::init<const py::dict&, const py::dict&, const std::string&, int, bool,
                    const py::object&>(),
           py::arg("config"), py::arg("tensors"), py::kw_only(), py::arg("isa") = "",
           py::arg("threads") = 0, py::arg("validate") = true, py::arg("on_expanded") = py::none())
      .def_property_readonly("config",
                             [](const PyModel& model) { return config_to_dict(model.config()); })
      .def_property_readonly("isa", &PyModel::isa)
      .def_property_readonly("threads", &PyModel::threads);

  py::class_<PySession, std::shared_ptr<PySession>>(m, "Session")
      .def(py::init<std::shared_ptr<PyModel>, int64_t, const std::string&>(), py::arg("model"),
           py::arg("max_seq_len"), py::arg("kv_dtype") = "f16")
      .def_property_readonly("length", [](const PySession& s) { return s.cache.length(); })
      .def_property_readonly("max_seq_len", [](const PySession& s) { return s.cache.capacity(); })
      .def_property_readonly("kv_bytes", [](const PySession& s) { return s.cache.bytes(); })
      .def("truncate", &PySession::truncate, py::arg("length"))
      .def(
          "forward",
          [](const std::shared_ptr<PySession>& session, const py::object& ids,
             const std::string& logits) { return forward_batch({session}, {ids}, logits); },
          py::arg("token_ids"), py::arg("logits") = "last")
      .def("export_kv", &PySession::export_kv)
      .def("import_kv", &PySession::import_kv, py::arg("k"), py::arg("v"));
  m.def(
      "kv_row_bytes",
      [](int64_t head_dim, const std::string& kv_dtype) {
        return kv_row_bytes(head_dim, kv_type_by_name(kv_dtype));
      },
      py::arg("head_dim"), py::arg("kv_dtype"));
  m.attr("KV_DTYPES") = py::make_tuple(kKvTypeNames[0], kKvTypeNames[1], kKvTypeNames[2]);
  m.def("forward_batch", &forward_batch, py::arg("sessions"), py::arg("token_ids"),
        py::arg("logits") = "last");
}

}  // namespace bitnet
