// Owns: ModelConfig from and to a Python dict, and enum values from their names.
#pragma once

#include <string>

#include "bindings/arrays.h"
#include "engine/model_config.h"

namespace bitnet {

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

inline Activation activation_by_name(const char* field, const std::string& name) {
  return enum_by_name<Activation>(field, name, kActivationNames);
}

inline KvType kv_type_by_name(const std::string& name) {
  return enum_by_name<KvType>("kv_dtype", name, kKvTypeNames);
}

// ValueError for a field that is unknown, missing, of another type or out of range.
ModelConfig config_from_dict(const py::dict& values);
py::dict config_to_dict(const ModelConfig& config);

}  // namespace bitnet
