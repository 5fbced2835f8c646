// Owns: the Python face of engine/: Model, Session, Sampler. Checks arguments, drops the GIL,
// calls.
#include <pybind11/stl.h>

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "bindings/arrays.h"
#include "engine/decoder.h"
#include "engine/sampler.h"
#include "engine/tensor_specs.h"
#include "kernels/registry.h"

namespace bitnet {
namespace {

using std::int64_t;

// ---- config <-> dict
// -----------------------------------------------------------------------------

template <class Enum, std::size_t count>
Enum enum_by_name(const char* field, const std::string& name, const char* const (&names)[count]) {
  std::string known;
  for (std::size_t i = 0; i < count; ++i) {
    if (name == names[i]) return static_cast<Enum>(i);
    known += (i ? ", " : "") + std::string(names[i]);
  }
  check_arg(false, "config", "expected ", field, " to be one of ", known, ", got '", name, "'");
  return Enum{};
}

Activation activation_by_name(const std::string& name) {
  return enum_by_name<Activation>("hidden_act", name, kActivationNames);
}

struct FieldReader {
  const py::dict& values;
  template <class T>
  void operator()(const char* name, T& field, bool required) const {
    if (!values.contains(name)) {
      check_arg(!required, "config", "missing field '", name, "'");
      return;
    }
    try {
      read(name, values[name], field);
    } catch (const py::cast_error&) {
      check_arg(false, "config", "expected field '", name, "' of another type, got ",
                std::string(py::str(py::repr(values[name]))));
    }
  }
  static void read(const char*, const py::object& value, int64_t& field) {
    field = value.cast<int64_t>();
  }
  static void read(const char*, const py::object& value, double& field) {
    field = value.cast<double>();
  }
  static void read(const char*, const py::object& value, bool& field) {
    if (!py::isinstance<py::bool_>(value)) throw py::cast_error("bool");
    field = value.cast<bool>();
  }
  static void read(const char*, const py::object& value, Activation& field) {
    field = activation_by_name(value.cast<std::string>());
  }
  static void read(const char* name, const py::object& value, RopeType& field) {
    field = enum_by_name<RopeType>(name, value.cast<std::string>(), kRopeTypeNames);
  }
};

struct FieldWriter {
  py::dict& values;
  template <class T>
  void operator()(const char* name, const T& field, bool) const {
    values[name] = field;
  }
  void operator()(const char* name, const Activation& field, bool) const {
    values[name] = kActivationNames[static_cast<int>(field)];
  }
  void operator()(const char* name, const RopeType& field, bool) const {
    values[name] = kRopeTypeNames[static_cast<int>(field)];
  }
};

ModelConfig config_from_dict(const py::dict& values) {
  ModelConfig config;
  py::dict known;
  visit_fields(config, FieldWriter{known});
  for (const auto& item : values)
    check_arg(known.contains(item.first), "config", "unknown field '",
              std::string(py::str(item.first)), "'");
  visit_fields(config, FieldReader{values});
  check_config(config);
  return config;
}

py::dict config_to_dict(const ModelConfig& config) {
  py::dict values;
  visit_fields(config, FieldWriter{values});
  return values;
}

py::dict config_fields() {
  py::dict values = config_to_dict(ModelConfig{});
  ModelConfig config;
  visit_fields(config, [&](const char* name, const auto&, bool required) {
    if (required) values[name] = py::none();
  });
  return values;
}

py::list tensor_specs_list(const py::dict& values) {
  const py::object type =
      py::module_::import("collections").attr("namedtuple")("TensorSpec", "name role shape");
  py::list result;
  for (const TensorSpec& spec : tensor_specs(config_from_dict(values))) {
    const py::tuple shape =
        spec.k ? py::tuple(py::make_tuple(spec.n, spec.k)) : py::tuple(py::make_tuple(spec.n));
    result.append(type(spec.name, tensor_role_name(spec.role), shape));
  }
  return result;
}

// ---- Model
// ---------------------------------------------------------------------------------------

// (format, data, scale | None, scale kind) as a view; contiguity and dtypes are checked here, sizes
// and names by build_weights.
TensorView tensor_view(const std::string& name, const py::handle& value) {
  const auto fields = py::cast<py::tuple>(value);
  check_arg(fields.size() == 4, "model", "tensor '", name,
            "': expected (format, data, scale, kind)");
  const FormatInfo& info = format_by_name(fields[0].cast<std::string>());
  check_arg(py::isinstance<py::array>(fields[1]), "model", "tensor '", name,
            "': expected data to be a numpy array");
  const auto data = py::cast<py::array>(fields[1]);
  const bool right_type = info.packed ? py::isinstance<py::array_t<std::uint8_t>>(data)
                          : info.format == Format::kF32 ? py::isinstance<py::array_t<float>>(data)
                                                        : data.itemsize() == 2;
  check_arg(right_type && (data.flags() & py::array::c_style), "model", "tensor '", name,
            "': expected C-contiguous data of the type of format ", info.name, ", got ",
            std::string(py::str(data.dtype())));
  const int64_t align = info.packed ? 1 : static_cast<int64_t>(data.itemsize());
  check_arg(reinterpret_cast<std::uintptr_t>(data.data()) % static_cast<std::uintptr_t>(align) == 0,
            "model", "tensor '", name, "': expected data aligned to ", align, " bytes");
  TensorView view{info.format,
                  scale_kind_by_name(fields[3].cast<std::string>()),
                  static_cast<const std::uint8_t*>(data.data()),
                  data.nbytes(),
                  nullptr,
                  0,
                  false};
  if (fields[2].is_none()) return view;
  check_arg(py::isinstance<py::array>(fields[2]), "model", "tensor '", name,
            "': expected scale to be a numpy array or None");
  const auto scale = py::cast<py::array>(fields[2]);
  view.scale_is_f16 = py::str(scale.dtype()).cast<std::string>() == "float16";
  check_arg((view.scale_is_f16 || py::isinstance<py::array_t<float>>(scale)) &&
                (scale.flags() & py::array::c_style) &&
                reinterpret_cast<std::uintptr_t>(scale.data()) %
                        static_cast<std::uintptr_t>(scale.itemsize()) ==
                    0,
            "model", "tensor '", name, "': expected an aligned, C-contiguous float32 or float16 ",
            "scale, got ", std::string(py::str(scale.dtype())));
  view.scale = scale.data();
  view.scale_count = scale.size();
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
          int threads, bool validate)
      : config_(config_from_dict(config_values)),
        kernels_(select_table(isa)),
        pool_(threads > 0 ? threads : default_threads()),
        tensors_(py::dict(tensors)) {
    check_arg(threads >= 0 && threads <= 1024, "model", "expected threads in [0, 1024], got ",
              threads);
    std::map<std::string, TensorView> views;
    for (const auto& item : tensors_) {
      const auto name = py::cast<std::string>(item.first);
      views.emplace(name, tensor_view(name, item.second));
    }
    py::gil_scoped_release unlocked;
    weights_ = build_weights(config_, views, validate, pool_);
    ops_ = make_cpu_ops(config_, kernels_, pool_);
    decoder_ = std::make_unique<Decoder>(config_, weights_, *ops_);
  }

  // Needs the GIL released; calls from several Python threads take turns.
  void forward(const std::vector<SequenceInput>& inputs, LogitRows want, float* logits) {
    std::lock_guard<std::mutex> turn(turn_);
    decoder_->forward(inputs, want, logits, SignalPoll{});
  }

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
  const py::dict tensors_;  // keeps the viewed arrays alive
  Weights weights_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<Decoder> decoder_;
  std::mutex turn_;
};

// ---- Session
// -------------------------------------------------------------------------------------

KvType kv_type_by_name(const std::string& name) {
  constexpr const char* kNames[] = {"f32", "f16"};
  return enum_by_name<KvType>("kv_dtype", name, kNames);
}

struct PySession {
  PySession(std::shared_ptr<PyModel> owner, int64_t max_seq_len, const std::string& kv_dtype)
      : model(std::move(owner)), cache(model->config(), max_seq_len, kv_type_by_name(kv_dtype)) {}

  void truncate(int64_t length) {
    check_arg(length >= 0 && length <= cache.length(), "truncate", "expected a length in [0, ",
              cache.length(), "], got ", length);
    cache.set_length(length);
  }

  // Copies rows [0, length) of every layer and head between the cache and two arrays.
  template <class Copy>
  void each_head(const Copy& copy) {
    for (int64_t layer = 0; layer < cache.layers(); ++layer)
      for (int64_t head = 0; head < cache.heads(); ++head)
        copy(layer * cache.heads() + head, cache.keys(layer, head), cache.values(layer, head));
  }

  py::tuple export_kv() {
    const int64_t row = cache.row_bytes(), length = cache.length();
    auto k = new_array<std::uint8_t>({cache.layers(), cache.heads(), length, row});
    auto v = new_array<std::uint8_t>({cache.layers(), cache.heads(), length, row});
    std::uint8_t *to_k = k.mutable_data(), *to_v = v.mutable_data();
    each_head([&](int64_t index, std::uint8_t* keys, std::uint8_t* values) {
      std::copy_n(keys, length * row, to_k + index * length * row);
      std::copy_n(values, length * row, to_v + index * length * row);
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
    each_head([&](int64_t index, std::uint8_t* keys, std::uint8_t* values) {
      std::copy_n(from_k + index * length * row, length * row, keys);
      std::copy_n(from_v + index * length * row, length * row, values);
    });
    cache.set_length(length);
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

py::array_t<float> forward_batch(const std::vector<PySession*>& sessions,
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
      check_arg(sessions[j] != &session, "forward", "expected each session once");
    kept.push_back(token_ids(ids[i], model.config().vocab_size));
    const auto count = static_cast<int64_t>(kept.back().size());
    check_arg(session.cache.length() + count <= session.cache.capacity(), "forward",
              "the context is full: ", session.cache.length(), " tokens are there and ", count,
              " more do not fit in max_seq_len ", session.cache.capacity());
    inputs.push_back({&session.cache, nullptr, count});
    tokens += count;
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i].ids = kept[i].data();
  const int64_t rows = want == LogitRows::kAll    ? tokens
                       : want == LogitRows::kLast ? static_cast<int64_t>(inputs.size())
                                                  : 0;
  auto out = new_array<float>({rows, model.config().vocab_size});
  float* to = out.mutable_data();
  py::gil_scoped_release unlocked;
  model.forward(inputs, want, to);
  return out;
}

// ---- sampling
// ------------------------------------------------------------------------------------

struct SamplerCall {  // checked arguments of Sampler's methods
  SamplerCall(const py::object& logits_value, const py::object& context_value)
      : logits(require_array<float>(logits_value, "sampler", "logits", 1)),
        context(require_array<std::int32_t>(context_value, "sampler", "context", 1)) {
    check_arg(logits.size() > 0, "sampler", "expected logits, got none");
    for (py::ssize_t i = 0; i < context.size(); ++i)
      check_arg(context.at(i) >= 0 && context.at(i) < logits.size(), "sampler",
                "expected context ids in [0, ", logits.size(), "), got ", context.at(i));
  }
  py::array_t<float> logits;
  py::array_t<std::int32_t> context;
};

py::array_t<float> log_softmax_rows(const py::object& logits_value, const py::object& ids_value) {
  const auto logits = require_array<float>(logits_value, "log_softmax_at", "logits", 2);
  const auto ids = require_array<std::int32_t>(ids_value, "log_softmax_at", "ids", 1);
  require_shape(ids, "log_softmax_at", "ids", {logits.shape(0)});
  const int64_t rows = logits.shape(0), vocab = logits.shape(1);
  for (int64_t t = 0; t < rows; ++t)
    check_arg(ids.at(t) >= 0 && ids.at(t) < vocab, "log_softmax_at", "expected ids in [0, ", vocab,
              "), got ", ids.at(t));
  auto out = new_array<float>({rows});
  const float* from = logits.data();
  const std::int32_t* id = ids.data();
  float* to = out.mutable_data();
  py::gil_scoped_release unlocked;
  for (int64_t t = 0; t < rows; ++t) to[t] = log_softmax_at(from + t * vocab, vocab, id[t]);
  return out;
}

void bind_sampler(py::module_& m) {
  py::class_<Sampler>(m, "Sampler")
      .def(py::init([](bool do_sample, float temperature, int64_t top_k, float top_p, float min_p,
                       float repetition_penalty, int64_t no_repeat_ngram_size, std::uint64_t seed) {
             return std::make_unique<Sampler>(SamplerParams{do_sample, temperature, top_k, top_p,
                                                            min_p, repetition_penalty,
                                                            no_repeat_ngram_size, seed});
           }),
           py::kw_only(), py::arg("do_sample") = false, py::arg("temperature") = 1.0f,
           py::arg("top_k") = 0, py::arg("top_p") = 1.0f, py::arg("min_p") = 0.0f,
           py::arg("repetition_penalty") = 1.0f, py::arg("no_repeat_ngram_size") = 0,
           py::arg("seed") = 0)
      .def(
          "probabilities",
          [](const Sampler& sampler, const py::object& logits, const py::object& context) {
            const SamplerCall call(logits, context);
            const std::vector<float> p = sampler.probabilities(
                call.logits.data(), call.logits.size(), call.context.data(), call.context.size());
            return py::array_t<float>(static_cast<py::ssize_t>(p.size()), p.data());
          },
          py::arg("logits"), py::arg("context"))
      .def(
          "sample",
          [](Sampler& sampler, const py::object& logits, const py::object& context) {
            const SamplerCall call(logits, context);
            const float* scores = call.logits.data();
            const int64_t vocab = call.logits.size();
            const std::int32_t id =
                sampler.sample(scores, vocab, call.context.data(), call.context.size());
            return py::make_tuple(id, log_softmax_at(scores, vocab, id));
          },
          py::arg("logits"), py::arg("context"));
  m.def("log_softmax_at", &log_softmax_rows, py::arg("logits"), py::arg("ids"));
}

}  // namespace

void bind_engine(py::module_& m) {
  m.attr("KEY_BLOCK") = kKeyBlock;
  m.def("config_fields", &config_fields);
  m.def("tensor_specs", &tensor_specs_list, py::arg("config"));
  m.attr("PackedTensor") = py::module_::import("collections")
                               .attr("namedtuple")("PackedTensor", "format data scale scale_kind");

  py::class_<PyModel, std::shared_ptr<PyModel>>(m, "Model")
      .def(py::init<const py::dict&, const py::dict&, const std::string&, int, bool>(),
           py::arg("config"), py::arg("tensors"), py::kw_only(), py::arg("isa") = "",
           py::arg("threads") = 0, py::arg("validate") = true)
      .def_property_readonly("config",
                             [](const PyModel& model) { return config_to_dict(model.config()); })
      .def_property_readonly("isa", &PyModel::isa)
      .def_property_readonly("threads", &PyModel::threads);

  py::class_<PySession>(m, "Session")
      .def(py::init<std::shared_ptr<PyModel>, int64_t, const std::string&>(), py::arg("model"),
           py::arg("max_seq_len"), py::arg("kv_dtype") = "f16")
      .def_property_readonly("length", [](const PySession& s) { return s.cache.length(); })
      .def_property_readonly("max_seq_len", [](const PySession& s) { return s.cache.capacity(); })
      .def_property_readonly("kv_bytes", [](const PySession& s) { return s.cache.bytes(); })
      .def("truncate", &PySession::truncate, py::arg("length"))
      .def(
          "forward",
          [](PySession& session, const py::object& ids, const std::string& logits) {
            return forward_batch({&session}, {ids}, logits);
          },
          py::arg("token_ids"), py::arg("logits") = "last")
      .def("export_kv", &PySession::export_kv)
      .def("import_kv", &PySession::import_kv, py::arg("k"), py::arg("v"));
  m.def("forward_batch", &forward_batch, py::arg("sessions"), py::arg("token_ids"),
        py::arg("logits") = "last");
  bind_sampler(m);
}

}  // namespace bitnet
