// Owns: passes over a row of logits, as loops over an ISA's primitives.
#pragma once

#include "kernels/float_inl.h"
#include "kernels/kernel_table.h"
#include "kernels/lanes_inl.h"

namespace bitnet {
namespace {

template <class S>
void block_maxima(const float* x, std::int64_t n, float* maxima) {
  std::int64_t i = 0;
  for (; i + kLogitBlock <= n; i += kLogitBlock) {
    auto most = S::load(x + i);
    for (std::int64_t j = kLanes; j < kLogitBlock; j += kLanes)
      most = S::max(S::load(x + i + j), most);
    *maxima++ = S::largest(most);
  }
  if (i == n) return;
  float most = x[i];
  for (; i < n; ++i) most = x[i] > most ? x[i] : most;
  *maxima = most;
}

// Eight lanes of float32 within a block, float64 from block to block.
template <class S>
double sum_exp(const float* x, std::int64_t n, float shift, float scale) {
  constexpr std::int64_t kBlock = 512;
  const auto from = S::set(shift), by = S::set(scale);
  double total = 0.0;
  for (std::int64_t begin = 0; begin < n; begin += kBlock) {
    const std::int64_t end = smaller(begin + kBlock, n);
    auto sum = S::set(0.0f);
    std::int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes)
      sum = S::add(sum, exp<S>(S::mul(S::sub(S::load(x + i), from), by)));
    if (i < end) {
      float rest[kLanes];  // e^-inf = 0
      for (std::int64_t lane = 0; lane < kLanes; ++lane)
        rest[lane] = i + lane < end ? x[i + lane] : -__builtin_huge_valf();
      sum = S::add(sum, exp<S>(S::mul(S::sub(S::load(rest), from), by)));
    }
    total += static_cast<double>(S::sum(sum));
  }
  return total;
}

}  // namespace
}  // namespace bitnet
