// Owns: the Python face of the sampler.
#include "bindings/arrays.h"
#include "engine/sampler.h"
#include "kernels/registry.h"

namespace bitnet {
namespace {

using std::int64_t;

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
  const KernelTable& kernels = select_table("");
  for (int64_t t = 0; t < rows; ++t)
    to[t] = log_softmax_at(kernels, from + t * vocab, vocab, id[t]);
  return out;
}

}  // namespace

void bind_sampler(py::module_& m) {
  py::class_<Sampler>(m, "Sampler")
      .def(py::init([](bool do_sample, float temperature, int64_t top_k, float top_p, float min_p,
                       float repetition_penalty, int64_t no_repeat_ngram_size, std::uint64_t seed) {
             return std::make_unique<Sampler>(
                 SamplerParams{do_sample, temperature, top_k, top_p, min_p, repetition_penalty,
                               no_repeat_ngram_size, seed},
                 select_table(""));
           }),
           py::kw_only(), py::arg("do_sample") = false, py::arg("temperature") = 1.0f,
           py::arg("top_k") = 0, py::arg("top_p") = 1.0f, py::arg("min_p") = 0.0f,
           py::arg("repetition_penalty") = 1.0f, py::arg("no_repeat_ngram_size") = 0,
           py::arg("seed") = 0)
      .def(
          "probabilities",
          [](Sampler& sampler, const py::object& logits, const py::object& context) {
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
            const Sampler::Choice choice = sampler.sample(call.logits.data(), call.logits.size(),
                                                          call.context.data(), call.context.size());
            return py::make_tuple(choice.id, choice.logprob);
          },
          py::arg("logits"), py::arg("context"));
  m.def("log_softmax_at", &log_softmax_rows, py::arg("logits"), py::arg("ids"));
}

}  // namespace bitnet
