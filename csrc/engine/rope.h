// Owns: the frequencies of rotary position embedding (arXiv 2104.09864) and its scaling rules, in
// float32 as Hugging Face computes them.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/model_config.h"

namespace bitnet {

// [head_dim / 2]
std::vector<float> rope_inverse_frequencies(const ModelConfig& config);

// cos and sin of position * inverse frequency: [inv_freq.size()] each.
void rope_angles(const std::vector<float>& inv_freq, std::int64_t position, float* cos, float* sin);

}  // namespace bitnet
