#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
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

Sampler::Sampler(const SamplerParams& params, const KernelTable& kernels)
    : params_(params), kernels_(kernels), random_state_(params.seed) {
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

double Sampler::take(const float* logits, std::int64_t vocab) {
  scores_ = logits;
  vocab_ = vocab;
  maxima_.resize(static_cast<std::size_t>(ceil_div(vocab, kLogitBlock)));
  kernels_.block_maxima(scores_, vocab_, maxima_.data());
  most_ = *std::max_element(maxima_.begin(), maxima_.end());
  const double sum = kernels_.sum_exp(logits, vocab, most_, 1.0f);
  // NaN has no place in an order, infinity none in a distribution.
  check_arg(std::isfinite(most_) && std::isfinite(sum), "sampler",
            "expected numbers below infinity as logits, not all of them -infinity: the weights are "
            "broken");
  return std::log(sum);
}

void Sampler::penalize(const float* logits, const std::int32_t* context,
                       std::int64_t context_size) {
  const float penalty = params_.repetition_penalty;
  const std::int64_t prefix = params_.no_repeat_ngram_size - 1;
  const bool bans = prefix >= 0 && context_size > prefix;
  if (penalty == 1.0f && !bans) return;
  processed_.assign(logits, logits + vocab_);
  if (penalty != 1.0f)
    for (std::int64_t i = 0; i < context_size; ++i) {
      const float raw = logits[context[i]];  // from the raw logits: a token is penalized once
      processed_[static_cast<std::size_t>(context[i])] =
          std::min(raw < 0 ? raw * penalty : raw / penalty, std::numeric_limits<float>::max());
    }
  // Ban every token that would complete an n-gram which the context already has.
  if (bans) {
    const std::int32_t* tail = context + context_size - prefix;
    for (std::int64_t i = 0; i + prefix < context_size; ++i)
      if (std::equal(tail, tail + prefix, context + i))
        processed_[static_cast<std::size_t>(context[i + prefix])] = kBanned;
  }
  scores_ = processed_.data();
  kernels_.block_maxima(scores_, vocab_, maxima_.data());
}

// The first of the largest.
std::int32_t Sampler::best() const {
  const auto block = std::max_element(maxima_.begin(), maxima_.end());
  const float* at = scores_ + (block - maxima_.begin()) * kLogitBlock;
  while (*at != *block) ++at;
  return static_cast<std::int32_t>(at - scores_);
}

std::vector<Sampler::Candidate> Sampler::at_least(float score) const {
  std::vector<Candidate> result;
  for (std::size_t block = 0; block < maxima_.size(); ++block) {
    if (maxima_[block] < score) continue;
    const std::int64_t begin = static_cast<std::int64_t>(block) * kLogitBlock;
    for (std::int64_t i = begin; i < std::min(begin + kLogitBlock, vocab_); ++i)
      if (scores_[i] >= score) result.push_back({scores_[i], 0.0, static_cast<std::int32_t>(i)});
  }
  return result;
}

float Sampler::kth_largest(std::int64_t k) const {
  const auto kth_of = [k](auto& values, auto greater) {
    const auto kth = values.begin() + (k - 1);
    std::nth_element(values.begin(), kth, values.end(), greater);
    return *kth;
  };
  // At least k scores reach the k-th largest of the maxima: only blocks that do can hold more.
  float bound = kBanned;
  if (k <= static_cast<std::int64_t>(maxima_.size())) {
    std::vector<float> maxima = maxima_;
    bound = kth_of(maxima, std::greater<float>());
  }
  std::vector<Candidate> some = at_least(bound);
  return kth_of(some, [](const Candidate& a, const Candidate& b) { return a.score > b.score; })
      .score;
}

std::vector<Sampler::Candidate> Sampler::candidates(double mass) {
  const std::int32_t best_id = best();
  const float most = scores_[best_id];
  // Nothing is allowed: take the first.
  if (!params_.do_sample || most == kBanned) return {{most, 1.0, best_id}};

  // Of all tokens, or of the best k and those that tie with the k-th, as Hugging Face's
  // `scores < kth` has it. What is further than kNothing below the best has probability 0.
  constexpr float kNothing = 105.0f;  // e^-105 is 0 in float32
  const float temperature = params_.temperature;
  const bool top_k = params_.top_k > 0 && params_.top_k < vocab_;
  const float lowest =
      std::max(most - kNothing * temperature, std::numeric_limits<float>::lowest());
  const float floor = top_k ? std::max(lowest, kth_largest(params_.top_k)) : lowest;
  const auto probability = [&](float score) {
    return static_cast<double>(std::exp((score - most) / temperature));
  };
  const auto sum_of = [](const std::vector<Candidate>& all) {
    double sum = 0;
    for (auto c = all.rbegin(); c != all.rend(); ++c) sum += c->probability;
    return sum;
  };
  std::vector<Candidate> all;
  const auto collect = [&](float from) {
    all = at_least(from);
    for (Candidate& c : all) c.probability = probability(c.score);
    return sum_of(all);
  };
  // The total, then as many of the best tokens as hold what is wanted of it.
  const bool filters = params_.top_p < 1.0f || params_.min_p > 0.0f;
  double total;
  if (top_k) {
    total = collect(floor);
  } else {
    // Of a subnormal temperature the inverse would be infinite, and 0 times it NaN.
    const float inverse = std::min(1.0f / temperature, std::numeric_limits<float>::max());
    total = kernels_.sum_exp(scores_, vocab_, most, inverse);
    const double share = filters ? static_cast<double>(params_.top_p) : mass;
    constexpr double kSlack = 1e-6;  // sums of float32 exponentials in two orders
    for (float reach = 3.0f;; reach *= 1.5f) {
      const float from = std::max(floor, most - reach * temperature);
      const bool has_min_p = params_.min_p > 0.0f && std::exp(1.0f - reach) < params_.min_p;
      if (collect(from) >= (share + kSlack) * total || has_min_p || from == floor) break;
    }
  }
  // Ties go to the smaller id, so the order does not depend on the sorting algorithm.
  std::sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
    return a.score != b.score ? a.score > b.score : a.id < b.id;
  });
  if (params_.top_p < 1.0f) {
    double head = 0;
    std::size_t kept = 0;
    while (kept < all.size() && (kept == 0 || head < static_cast<double>(params_.top_p) * total))
      head += all[kept++].probability;
    all.resize(kept);
  }
  if (params_.min_p > 0.0f) {
    const double least = static_cast<double>(params_.min_p);  // the best one has 1
    while (all.size() > 1 && all.back().probability < least) all.pop_back();
  }
  if (filters) total = sum_of(all);
  for (Candidate& c : all) c.probability /= total;
  return all;
}

std::vector<float> Sampler::probabilities(const float* logits, std::int64_t vocab,
                                          const std::int32_t* context, std::int64_t context_size) {
  take(logits, vocab);
  penalize(logits, context, context_size);
  std::vector<float> result(static_cast<std::size_t>(vocab), 0.0f);
  for (const Candidate& c : candidates(1.0))
    result[static_cast<std::size_t>(c.id)] = static_cast<float>(c.probability);
  return result;
}

Sampler::Choice Sampler::sample(const float* logits, std::int64_t vocab,
                                const std::int32_t* context, std::int64_t context_size) {
  const double log_sum = take(logits, vocab);
  penalize(logits, context, context_size);
  double left = params_.do_sample ? next_uniform(random_state_) : 0.0;
  const std::vector<Candidate> all = candidates(left);
  std::int32_t id = all.back().id;
  for (const Candidate& c : all) {
    left -= c.probability;
    if (left >= 0) continue;
    id = c.id;
    break;
  }
  return {id, static_cast<float>(static_cast<double>(logits[id] - most_) - log_sum)};
}

float log_softmax_at(const KernelTable& kernels, const float* logits, std::int64_t vocab,
                     std::int32_t id) {
  std::vector<float> maxima(static_cast<std::size_t>(ceil_div(vocab, kLogitBlock)));
  kernels.block_maxima(logits, vocab, maxima.data());
  const float most = *std::max_element(maxima.begin(), maxima.end());
  const double sum = kernels.sum_exp(logits, vocab, most, 1.0f);
  return static_cast<float>(static_cast<double>(logits[id] - most) - std::log(sum));
}

}  // namespace bitnet
