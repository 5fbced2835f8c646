// Owns: linear layers with float weights (f32, f16, bf16 as plain rows [N, K]), as a loop nest over
// an ISA's primitives (lanes_inl.h).
//
// Each output element is eight lanes of multiply-adds along K, tail included, summed in one fixed
// tree at the end: the same bits whether one token is computed or many.
#pragma once

#include "kernels/kernel_table.h"
#include "kernels/lanes_inl.h"

namespace bitnet {
namespace {

constexpr std::int64_t kDensePanel = 8;

// kRows x kTokens outputs at once. Rows and tokens past the end repeat the last one and are
// dropped.
template <class S, class E, int kRows, int kTokens>
void dense_tile(const LinearArgs& args, std::int64_t row, std::int64_t row_end,
                std::int64_t token) {
  using F = typename S::F;
  const E* w[kRows];
  const float* x[kTokens];
  F sum[kRows][kTokens];
  for (int r = 0; r < kRows; ++r)
    w[r] = reinterpret_cast<const E*>(args.weight) + smaller(row + r, row_end - 1) * args.k;
  for (int t = 0; t < kTokens; ++t)
    x[t] = args.x + smaller(token + t, args.tokens - 1) * args.x_stride;
  for (int r = 0; r < kRows; ++r)
    for (int t = 0; t < kTokens; ++t) sum[r][t] = S::set(0.0f);
  for_lanes<S>(args.k, [&](auto load, auto) {
    F acts[kTokens];
    for (int t = 0; t < kTokens; ++t) acts[t] = load(x[t]);
    for (int r = 0; r < kRows; ++r) {
      const F weight = load(w[r]);
      for (int t = 0; t < kTokens; ++t) sum[r][t] = S::fma(weight, acts[t], sum[r][t]);
    }
  });
  for (int t = 0; t < kTokens && token + t < args.tokens; ++t)
    for (int r = 0; r < kRows && row + r < row_end; ++r)
      args.out[(token + t) * args.out_stride + row + r] = S::sum(sum[r][t]);
}

template <class S, class E>
void dense_linear(const LinearArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  const std::int64_t row_end = smaller(args.n, panel_end * kDensePanel);
  if (args.tokens == 1) {
    for (std::int64_t row = panel_begin * kDensePanel; row < row_end; row += 8)
      dense_tile<S, E, 8, 1>(args, row, row_end, 0);
    return;
  }
  for (std::int64_t row = panel_begin * kDensePanel; row < row_end; row += 4)
    for (std::int64_t token = 0; token < args.tokens; token += 3)
      dense_tile<S, E, 4, 3>(args, row, row_end, token);
}

}  // namespace
}  // namespace bitnet
