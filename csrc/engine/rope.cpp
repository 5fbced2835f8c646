#include "engine/rope.h"

#include <cmath>

namespace bitnet {
namespace {

// Llama 3.1's rule: long wavelengths are stretched by `factor`, short ones kept, between them
// blended.
float llama3_frequency(float frequency, const ModelConfig& c) {
  const auto factor = static_cast<float>(c.rope_factor);
  const auto low = static_cast<float>(c.rope_low_freq_factor);
  const auto high = static_cast<float>(c.rope_high_freq_factor);
  const auto context = static_cast<float>(c.rope_original_max_position_embeddings);
  const float wavelength = 6.283185307179586f / frequency;
  if (wavelength > context / low) return frequency / factor;
  if (wavelength < context / high) return frequency;
  const float smooth = (context / wavelength - low) / (high - low);
  return (1.0f - smooth) * frequency / factor + smooth * frequency;
}

}  // namespace

std::vector<float> rope_inverse_frequencies(const ModelConfig& c) {
  std::vector<float> frequencies;
  for (std::int64_t i = 0; i < c.head_dim; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(c.head_dim);
    float frequency = 1.0f / std::pow(static_cast<float>(c.rope_theta), exponent);
    if (c.rope_type == RopeType::kLinear) frequency /= static_cast<float>(c.rope_factor);
    if (c.rope_type == RopeType::kLlama3) frequency = llama3_frequency(frequency, c);
    frequencies.push_back(frequency);
  }
  return frequencies;
}

void rope_angles(const std::vector<float>& inv_freq, std::int64_t position, float* cos,
                 float* sin) {
  for (std::size_t i = 0; i < inv_freq.size(); ++i) {
    const float angle = static_cast<float>(position) * inv_freq[i];
    cos[i] = std::cos(angle);
    sin[i] = std::sin(angle);
  }
}

}  // namespace bitnet
