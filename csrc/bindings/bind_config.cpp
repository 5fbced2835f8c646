// Owns: the Python face of model_config and tensor_specs.
#include "bindings/config_dict.h"
#include "engine/tensor_specs.h"

namespace bitnet {
namespace {

using std::int64_t;

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
  static void read(const char* name, const py::object& value, Activation& field) {
    field = activation_by_name(name, value.cast<std::string>());
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

}  // namespace

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

namespace {

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

}  // namespace

void bind_config(py::module_& m) {
  m.def("config_fields", &config_fields);
  m.def("tensor_specs", &tensor_specs_list, py::arg("config"));
}

}  // namespace bitnet
