#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace bitnet {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();

// SplitMix64 (Steele, Lea, Flood 2014): one 64-bit state, good enough to draw tokens.
double next_uniform(std::uint64_t& state) {
  std::uint64_t z = state += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1.0p-53;
}

}  // namespace

Sampler::Sampler(const SamplerParams& params) : params_(params), random_state_(params.seed) {
  constexpr const char* kOp = "sampler";
  const auto positive = [](float value) { return std::isfinite(value) && value > 0; };
  check_arg(positive(params.temperature), kOp, "expected a temperature above 0, got ",
            params.temperature);
  check_arg(params.top_k >= 0, kOp, "expected top_k of at least 0, got ", params.top_k);
  check_arg(params.top_p > 0 && params.top_p <= 1, kOp, "expected top_p in (0, 1], got ",
            params.top_p);
  check_arg(params.min_p >= 0 && params.min_p <= 1, kOp, "expected min_p in [0, 1], got ",
            params.min_p);
  check_arg(positive(params.repetition_penalty), kOp, "expected a repetition_penalty above 0, got ",
            params.repetition_penalty);
  check_arg(params.no_repeat_ngram_size >= 0, kOp,
            "expected no_repeat_ngram_size of at least 0, got ", params.no_repeat_ngram_size);
}

std::vector<float> Sampler::penalized(const float* logits, std::int64_t vocab,
                                      const std::int32_t* context,
                                      std::int64_t context_size) const {
  std::vector<float> scores(logits, logits + vocab);
  for (const float score : scores)  // NaN has no place in an order, infinity none in a distribution
    check_arg(score < std::numeric_limits<float>::infinity(), "sampler",
              "expected logits below infinity, got ", score, ": the weights are broken");
  const float penalty = params_.repetition_penalty;
  if (penalty != 1.0f)
    for (std::int64_t i = 0; i < context_size; ++i) {
      const float raw = logits[context[i]];  // from the raw logits: a token is penalized once
      scores[static_cast<std::size_t>(context[i])] =
          std::min(raw < 0 ? raw * penalty : raw / penalty, std::numeric_limits<float>::max());
    }
  // Ban every token that would complete an n-gram which the context already has.
  const std::int64_t prefix = params_.no_repeat_ngram_size - 1;
  if (prefix >= 0 && context_size > prefix) {
    const std::int32_t* tail = context + context_size - prefix;
    for (std::int64_t i = 0; i + prefix < context_size; ++i)
      if (std::equal(tail, tail + prefix, context + i))
        scores[static_cast<std::size_t>(context[i + prefix])] = kBanned;
  }
  return scores;
}

std::vector<Sampler::Candidate> Sampler::candidates(const std::vector<float>& scores) const {
  std::vector<Candidate> all(scores.size());
  for (std::size_t i = 0; i < scores.size(); ++i)
    all[i] = {scores[i], static_cast<std::int32_t>(i)};
  // Ties go to the smaller id, so the order does not depend on the sorting algorithm.
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.score != b.score ? a.score > b.score : a.id < b.id;
  };
  if (!params_.do_sample) {
    all = {*std::min_element(all.begin(), all.end(), better)};
    all[0].score = 1.0f;
    return all;
  }
  // Keep the best k and all that tie with the k-th, as Hugging Face's `scores < kth` does.
  if (params_.top_k > 0 && params_.top_k < static_cast<std::int64_t>(all.size())) {
    const auto kth = all.begin() + (params_.top_k - 1);
    std::nth_element(all.begin(), kth, all.end(), better);
    const float threshold = kth->score;
    all.erase(std::remove_if(all.begin(), all.end(),
                             [&](const Candidate& c) { return c.score < threshold; }),
              all.end());
  }
  std::sort(all.begin(), all.end(), better);
  while (all.size() > 1 && all.back().score == kBanned) all.pop_back();

  // Scores become probabilities; the tail sums are float64, smallest first.
  const float best = all.front().score;
  if (best == kBanned) return {{1.0f, all.front().id}};  // nothing is allowed: take the first
  const auto normalize = [&] {
    double total = 0;
    for (auto c = all.rbegin(); c != all.rend(); ++c) total += static_cast<double>(c->score);
    for (Candidate& c : all) c.score = static_cast<float>(static_cast<double>(c.score) / total);
  };
  for (Candidate& c : all) c.score = std::exp((c.score - best) / params_.temperature);
  normalize();
  if (params_.top_p < 1.0f) {
    // Drop from the improbable end while the dropped mass stays within 1 - top_p.
    double dropped = 0;
    while (all.size() > 1) {
      dropped += static_cast<double>(all.back().score);
      if (dropped > 1.0 - static_cast<double>(params_.top_p)) break;
      all.pop_back();
    }
  }
  if (params_.min_p > 0.0f) {
    const float threshold = params_.min_p * all.front().score;
    while (all.size() > 1 && all.back().score < threshold) all.pop_back();
  }
  normalize();
  return all;
}

std::vector<float> Sampler::probabilities(const float* logits, std::int64_t vocab,
                                          const std::int32_t* context,
                                          std::int64_t context_size) const {
  std::vector<float> result(static_cast<std::size_t>(vocab), 0.0f);
  for (const Candidate& c : candidates(penalized(logits, vocab, context, context_size)))
    result[static_cast<std::size_t>(c.id)] = c.score;
  return result;
}

std::int32_t Sampler::sample(const float* logits, std::int64_t vocab, const std::int32_t* context,
                             std::int64_t context_size) {
  const std::vector<Candidate> all = candidates(penalized(logits, vocab, context, context_size));
  double left = params_.do_sample ? next_uniform(random_state_) : 0.0;
  for (const Candidate& c : all) {
    left -= static_cast<double>(c.score);
    if (left < 0) return c.id;
  }
  return all.back().id;
}

float log_softmax_at(const float* logits, std::int64_t vocab, std::int32_t id) {
  const float best = *std::max_element(logits, logits + vocab);
  double sum = 0;
  for (std::int64_t i = 0; i < vocab; ++i) sum += static_cast<double>(std::exp(logits[i] - best));
  return static_cast<float>(static_cast<double>(logits[id] - best) - std::log(sum));
}

}  // namespace bitnet
