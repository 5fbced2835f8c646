// Owns: from logits to a token. Processors and their order are Hugging Face's: repetition penalty
// (arXiv 1909.05858), no-repeat n-grams, then, when sampling, temperature, top-k, top-p
// (arXiv 1904.09751) and min-p (arXiv 2407.01082).
#pragma once

#include <cstdint>
#include <vector>

namespace bitnet {

struct SamplerParams {
  bool do_sample = false;
  float temperature = 1.0f;               // > 0
  std::int64_t top_k = 0;                 // 0: off
  float top_p = 1.0f;                     // (0, 1]; 1: off
  float min_p = 0.0f;                     // [0, 1]; 0: off
  float repetition_penalty = 1.0f;        // > 0; 1: off
  std::int64_t no_repeat_ngram_size = 0;  // 0: off
  std::uint64_t seed = 0;
};

class Sampler {
 public:
  explicit Sampler(const SamplerParams& params);  // ValueError when out of range

  // The distribution that sample() draws from: float32 [vocab]. context: prompt and generated
  // tokens.
  std::vector<float> probabilities(const float* logits, std::int64_t vocab,
                                   const std::int32_t* context, std::int64_t context_size) const;

  // Draws a token. Two samplers with the same parameters and inputs draw the same tokens.
  std::int32_t sample(const float* logits, std::int64_t vocab, const std::int32_t* context,
                      std::int64_t context_size);

 private:
  struct Candidate {
    float score;
    std::int32_t id;
  };
  std::vector<float> penalized(const float* logits, std::int64_t vocab, const std::int32_t* context,
                               std::int64_t context_size) const;
  // Tokens that may be drawn with their probabilities, most probable first.
  std::vector<Candidate> candidates(const std::vector<float>& scores) const;

  const SamplerParams params_;
  std::uint64_t random_state_;
};

// log softmax(logits)[id], the sum in float64.
float log_softmax_at(const float* logits, std::int64_t vocab, std::int32_t id);

}  // namespace bitnet
