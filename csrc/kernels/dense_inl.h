// Owns: linear layers with float weights (f32, f16, bf16 as plain rows [N, K]), as a loop nest over
// an ISA's primitives (lanes_inl.h).
//
// Each output element is eight lanes of multiply-adds along K, summed in one fixed tree at the end:
// the same bits whether one token is computed or many.
#pragma once

#include "kernels/kernel_table.h"
#include "kernels/lanes_inl.h"

namespace bitnet {
namespace {

constexpr std::int64_t kDensePanel = 8;

// kRows x kTokens outputs from (row, token) on, all lanes in registers. Rows past the end repeat
// the last one and are dropped.
template <class S, class E, int kRows, int kTokens>
BITNET_NEST void dense_tile(const LinearArgs& args, std::int64_t row, std::int64_t row_end,
                            std::int64_t token) {
  using F = typename S::F;
  const E* w[kRows];
  const float* x[kTokens];
  // What K leaves beyond a multiple of 8, with zeros after it.
  const std::int64_t whole = args.k / kLanes * kLanes;
  E w_tail[kRows][kLanes] = {};
  float x_tail[kTokens][kLanes] = {};
  repeat<kTokens>([&](auto t) {
    x[t] = args.x + (token + t) * args.x_stride;
    for (std::int64_t i = whole; i < args.k; ++i) x_tail[t][i - whole] = x[t][i];
  });
  repeat<kRows>([&](auto r) {
    w[r] = reinterpret_cast<const E*>(args.weight) + smaller(row + r, row_end - 1) * args.k;
    for (std::int64_t i = whole; i < args.k; ++i) w_tail[r][i - whole] = w[r][i];
  });
  // The tail comes first: with code after the loop, clang 14 would spill inside it.
  F lanes[kRows][kTokens];
  repeat<kRows>([&](auto r) {
    const F weight = S::load(w_tail[r]);
    repeat<kTokens>([&](auto t) { lanes[r][t] = S::mul(weight, S::load(x_tail[t])); });
  });
  for (std::int64_t i = 0; i < whole; i += kLanes) {
    F acts[kTokens];
    repeat<kTokens>([&](auto t) { acts[t] = S::load(x[t] + i); });
    repeat<kRows>([&](auto r) {
      const F weight = S::keep(S::load(w[r] + i));
      repeat<kTokens>([&](auto t) { lanes[r][t] = S::fma(weight, acts[t], lanes[r][t]); });
    });
  }
  repeat<kRows>([&](auto r) {
    if (row + r >= row_end) return;
    repeat<kTokens>(
        [&](auto t) { args.out[(token + t) * args.out_stride + row + r] = S::sum(lanes[r][t]); });
  });
}

template <class S, class E>
void dense_linear(const LinearArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  const std::int64_t row_end = smaller(args.n, panel_end * kDensePanel);
  std::int64_t row = panel_begin * kDensePanel;
  if (args.tokens == 1) {
    for (; row < row_end; row += 8) dense_tile<S, E, 8, 1>(args, row, row_end, 0);
    return;
  }
  for (; row < row_end; row += 4) {
    std::int64_t token = 0;
    for (; token + 3 <= args.tokens; token += 3) dense_tile<S, E, 4, 3>(args, row, row_end, token);
    if (args.tokens - token == 2) dense_tile<S, E, 4, 2>(args, row, row_end, token);
    if (args.tokens - token == 1) dense_tile<S, E, 4, 1>(args, row, row_end, token);
  }
}

}  // namespace
}  // namespace bitnet
