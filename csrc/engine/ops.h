// Owns: the operations that a device must offer. A decoder is written in these alone; CPU
// (ops_cpu.cpp) is one implementation. They are fused where a device gains from it: a linear
// normalizes and quantizes its input itself, and several linears may share one input.
//
// All activations are float32, row-major [tokens, features]. From equal inputs every device gives
// the same integers.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/thread_pool.h"
#include "engine/kv_cache.h"
#include "engine/weights.h"
#include "kernels/kernel_table.h"

namespace bitnet {

// One token of a batch: where it belongs.
struct BatchRow {
  KvCache* cache;
  std::int64_t position;  // in its own sequence
};

// The input of linears: x [tokens, features], through an RMSNorm first if norm is given.
struct LinearInput {
  const float* x;
  const float* norm;  // [features] or nullptr
  float eps;
};

struct LinearOutput {
  const Linear* weight;
  float* out;       // [tokens, weight->n]
  bool accumulate;  // out += instead of out =
};

class Ops {
 public:
  virtual ~Ops() = default;

  // x[t] = table[ids[t]]
  virtual void embed(const Linear& table, const std::int32_t* ids, std::int64_t tokens,
                     float* x) = 0;

  // out_i = norm(x) . weight_i^T + bias_i for every output
  virtual void linears(const LinearInput& input, std::int64_t tokens,
                       const std::vector<LinearOutput>& outputs) = 0;

  // out = act(norm(x) . gate^T) * (norm(x) . up^T); out, scratch: [tokens, gate.n]
  virtual void gated_linears(const LinearInput& input, std::int64_t tokens, const Linear& gate,
                             const Linear& up, Activation act, float* scratch, float* out) = 0;

  // Rotates q and k in place, then stores k and v into the caches of `layer`.
  // q: [tokens, heads * head_dim]; k, v: [tokens, kv_heads * head_dim]; cos, sin: [tokens,
  // head_dim/2]
  virtual void rope_append(const std::vector<BatchRow>& rows, std::int64_t layer, const float* cos,
                           const float* sin, float* q, float* k, const float* v) = 0;

  // Causal attention of every row over its own sequence up to and including itself.
  // q, out: [tokens, heads * head_dim]
  virtual void attend(const std::vector<BatchRow>& rows, std::int64_t layer, const float* q,
                      float* out) = 0;
};

std::unique_ptr<Ops> make_cpu_ops(const ModelConfig& config, const KernelTable& kernels,
                                  ThreadPool& pool);

}  // namespace bitnet
