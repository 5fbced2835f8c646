// Owns: the contract of every CPU kernel. A table is a plain struct of function pointers; one table
// per ISA (isa_*.cpp), chosen once when a Model is built (registry.h).
//
// Kernels are pure, single-threaded functions on raw pointers. Threads split panels, rows or heads
// outside them, so results do not depend on the number of threads. Preconditions are stated here
// and checked by the callers at the boundary; the kernels trust them. They read only inside the
// arrays they are given, whatever the bytes in them. Loads need no alignment.
//
// What is equal where (DESIGN: numerics): integers (quantize_act, *_dot) are equal on every ISA.
// For floats, one ISA gives the same bits for any number of tokens in a call: each output element
// has one order of additions, whether it is computed alone or beside others.
#pragma once

#include <cstdint>

#include "kernels/kv_layout.h"
#include "packing/formats.h"

namespace bitnet {

enum class Activation : int { kSilu, kRelu2, kGeluTanh };

// Quantized activations of `tokens` rows, x[t] ~ scale[t] * q[t].
struct Int8Acts {
  const std::int8_t* q;           // [tokens, stride]; zeros from k to k_pad
  std::int64_t stride;            // multiple of 8, >= k rounded up to 8
  const float* scale;             // [tokens]
  const std::int32_t* group_sum;  // [tokens, group_stride]: sum of q over each 128 columns
  std::int64_t group_stride;      // >= ceil(k / 128)
};

// out[t, r] = sum_k x[t, k] * w[r, k] for the rows r of some panels. Rows >= n are never written.
// Formats with int8 activations read `acts`, dense formats read `x`.
//   ternary2, trits5, int8: float(int32 sum) * (acts.scale[t] * weight_scale[r])
//   group scales (ternary2, trits5, int6): acts.scale[t] * sum over groups in order of
//     float(int32 sum of the group) * scale[group, r], products and sums rounded separately (no
//     fused multiply-add)
//   dense: fixed lanes along K, then a fixed horizontal order
struct LinearArgs {
  const std::uint8_t* weight;  // codes as stored (packing/), or plain rows [n, k]
  const void* scale;           // float32 [1] | float32 [n_pad] | or per group: scale_index()
  ScaleKind scale_kind;
  bool scale_is_f16;  // group scales only
  std::int64_t n, k;
  std::int64_t tokens;
  const float* x;  // [tokens, x_stride]
  std::int64_t x_stride;
  Int8Acts acts;
  float* out;  // [tokens, out_stride]
  std::int64_t out_stride;
};
using LinearFn = void (*)(const LinearArgs& args, std::int64_t panel_begin, std::int64_t panel_end);

// The integer part alone, for proofs and benches: out[t, r] = sum_k q[t, k] * (value of w[r, k]'s
// code), where that fits an int32.
using DotFn = void (*)(const std::uint8_t* weight, std::int64_t n, std::int64_t k,
                       const Int8Acts& acts, std::int64_t tokens, std::int64_t panel_begin,
                       std::int64_t panel_end, std::int32_t* out, std::int64_t out_stride);

// Attention of `queries` query vectors over the keys of one KV head. Keys are taken in blocks of
// kKeyBlock at fixed absolute positions. Each block gives a partial result of its own, and partial
// results are merged in the order of their blocks: so neither the other queries of a call nor who
// computes which block changes a bit (the online softmax of arXiv 2205.14135).
inline constexpr std::int64_t kKeyBlock = 256;
struct AttendArgs {
  const float* const* q;       // [queries] pointers to [head_dim]
  const std::int64_t* n_keys;  // [queries]: query i sees keys [0, n_keys[i])
  std::int64_t queries;
  KvHead kv;
  float scale;     // usually 1/sqrt(head_dim)
  float* scratch;  // attend_scratch_floats(queries) floats
};
inline std::int64_t attend_scratch_floats(std::int64_t queries) { return queries * kKeyBlock; }

// A partial result: the largest score, the sum of exp(score - largest), and from kPartialHeader on
// the sum of exp(score - largest) * value, padded as values are.
inline constexpr std::int64_t kPartialHeader = kKeyTile;
inline std::int64_t partial_floats(std::int64_t head_dim) {
  return kPartialHeader + round_to_key_tile(head_dim);
}

// Logits are looked through in blocks: most of a vocabulary is never looked at twice.
inline constexpr std::int64_t kLogitBlock = 64;

// Tiles of one trits5 panel as ternary2, see trits5::expand. Returns whether every code is valid.
using ExpandTritsFn = bool (*)(const std::uint8_t* stored, std::int64_t tiles, std::uint8_t* out);

struct KernelTable {
  const char* name;

  // By Format. Empty for trits5 where its product would be slower than that of ternary2 codes in
  // memory: the engine then expands the weight once, with expand_trits5.
  LinearFn linear[kNumFormats];
  DotFn dot[kNumFormats];  // of the packed formats
  ExpandTritsFn expand_trits5;

  // One token: m = max(max|x|, 1e-5); r = 127/m; q = clip(rint_half_even(x * r), -128, 127);
  // *scale = m/127; zeros from k to k_pad (k rounded up to 8); group_sum[ceil(k/128)]. A value that
  // is not finite makes *scale NaN, so that it shows in the product.
  void (*quantize_act)(const float* x, std::int64_t k, std::int8_t* q, float* scale,
                       std::int32_t* group_sum);

  // out = x / sqrt(mean(x^2) + eps) * weight (arXiv 1910.07467). out may be x.
  void (*rms_norm)(const float* x, const float* weight, float eps, std::int64_t n, float* out);

  // In place, one head: (x1, x2) -> (x1*cos - x2*sin, x2*cos + x1*sin), where x1, x2 are the halves
  // of the head. cos, sin: [head_dim / 2] (arXiv 2104.09864, Hugging Face's rotate_half order).
  void (*rope)(float* x, const float* cos, const float* sin, std::int64_t head_dim);

  // out[i] = act(gate[i]) * up[i]. out may be gate.
  void (*gated_activation)(Activation act, const float* gate, const float* up, std::int64_t n,
                           float* out);

  void (*add)(const float* y, std::int64_t n, float* x);  // x += y

  // One token's key and value [head_dim] of one head, to nearest even; int8 by absmax.
  void (*store_kv)(const float* k, const float* v, const KvHead& to, std::int64_t position);

  // partial [queries, partial_floats] over the keys of one block that each query sees.
  void (*attend_block)(const AttendArgs& args, std::int64_t block, float* partial);
  // total [queries, partial_floats] and the next block's partial, into total.
  void (*attend_merge)(const float* partial, std::int64_t queries, std::int64_t head_dim,
                       float* total);
  // The result of one query, when all its blocks are in.
  void (*attend_finish)(const float* total, std::int64_t head_dim, float* out);

  // maxima[i] = the largest of x in block i of kLogitBlock; the last may be short. NaN is not seen.
  void (*block_maxima)(const float* x, std::int64_t n, float* maxima);

  // The sum of e^((x - shift) * scale) within 3 ulp per term; NaN if an x is NaN.
  double (*sum_exp)(const float* x, std::int64_t n, float shift, float scale);
};

}  // namespace bitnet
