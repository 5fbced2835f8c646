// Owns: from logits to a token. Processors and their order are Hugging Face's: repetition penalty
// (arXiv 1909.05858), no-repeat n-grams, then, when sampling, temperature, top-k, top-p
// (arXiv 1904.09751) and min-p (arXiv 2407.01082). Of a large vocabulary only the tokens near the
// best are collected and sorted.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernel_table.h"

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
  struct Choice {
    std::int32_t id;
    float logprob;  // log softmax of the logits as they came
  };

  // ValueError when a parameter is out of range.
  Sampler(const SamplerParams& params, const KernelTable& kernels);

  // The distribution that sample() draws from: float32 [vocab]. context: prompt and generated
  // tokens.
  std::vector<float> probabilities(const float* logits, std::int64_t vocab,
                                   const std::int32_t* context, std::int64_t context_size);

  // Draws a token. Two samplers with the same parameters and inputs draw the same tokens.
  // ValueError when a logit is NaN or +infinity, or all are -infinity.
  Choice sample(const float* logits, std::int64_t vocab, const std::int32_t* context,
                std::int64_t context_size);

 private:
  struct Candidate {
    float score;
    double probability;
    std::int32_t id;
  };
  // log of the sum of e^(logit - most_); ValueError as above. Takes the raw logits as scores_.
  double take(const float* logits, std::int64_t vocab);
  void penalize(const float* logits, const std::int32_t* context, std::int64_t context_size);
  // The tokens that may be drawn, most probable first; those that come after a probability of
  // `mass` may be left out.
  std::vector<Candidate> candidates(double mass);
  std::int32_t best() const;
  std::vector<Candidate> at_least(float score) const;
  float kth_largest(std::int64_t k) const;

  const SamplerParams params_;
  const KernelTable& kernels_;
  std::uint64_t random_state_;
  const float* scores_ = nullptr;  // [vocab_], processed
  std::int64_t vocab_ = 0;
  float most_ = 0.0f;             // of the raw logits
  std::vector<float> maxima_;     // of scores_, by block
  std::vector<float> processed_;  // holds scores_ where they are not the logits themselves
};

// log softmax(logits)[id], the sum in float64.
float log_softmax_at(const KernelTable& kernels, const float* logits, std::int64_t vocab,
                     std::int32_t id);

}  // namespace bitnet
