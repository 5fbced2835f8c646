// Owns: names and shapes of the tensors of a decoder: the contract between converter and engine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/model_config.h"

namespace bitnet {

enum class TensorRole : int { kEmbedding, kLinear, kHead, kNorm, kBias };
const char* tensor_role_name(TensorRole role);

struct TensorSpec {
  std::string name;  // Hugging Face's
  TensorRole role;
  std::int64_t n;  // rows, or length of a vector
  std::int64_t k;  // columns; 0: a vector [n]
};

// In order of use. Needs a checked config.
std::vector<TensorSpec> tensor_specs(const ModelConfig& config);

}  // namespace bitnet
