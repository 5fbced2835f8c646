// Owns: the decoder: a Llama-family transformer described by ModelConfig. Prefill, decode and a
// batch of sequences are the same call with different rows. Does not own threads, files or
// sampling.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/aligned_buffer.h"
#include "engine/kv_cache.h"
#include "engine/ops.h"
#include "engine/weights.h"

namespace bitnet {

// Tokens to append to one sequence.
struct SequenceInput {
  KvCache* cache;
  const std::int32_t* ids;
  std::int64_t count;
};

enum class LogitRows : int { kNone, kLast, kAll };

class Decoder {
 public:
  Decoder(const ModelConfig& config, const Weights& weights, Ops& ops);

  // Appends the tokens to their sequences in one pass over the weights. logits: float32
  // [rows, vocab_size]; kLast: one row per sequence, kAll: one per token, in order. `poll` is
  // called between layers and may throw: the caches then hold what they held before. Needs: ids in
  // [0, vocab_size), room in every cache, each cache at most once.
  void forward(const std::vector<SequenceInput>& inputs, LogitRows want, float* logits,
               const std::function<void()>& poll);

 private:
  struct Row : BatchRow {
    std::int32_t id;
    bool wants_logits;
  };
  // Both return how many rows of logits they wrote.
  std::int64_t forward_rows(const std::vector<Row>& rows, float* logits,
                            const std::function<void()>& poll);
  void layer(const std::vector<BatchRow>& rows, std::int64_t index);
  std::int64_t write_logits(const std::vector<Row>& rows, float* logits);

  const ModelConfig config_;
  const Weights& weights_;
  Ops& ops_;
  const std::vector<float> inv_freq_;  // [head_dim / 2]
  // Activations of one pass, [tokens, ...].
  AlignedBuffer<std::int32_t> ids_;
  AlignedBuffer<float> x_;          // hidden_size: the residual stream
  AlignedBuffer<float> q_, attn_;   // q_size
  AlignedBuffer<float> k_, v_;      // kv_size
  AlignedBuffer<float> ffn_, up_;   // intermediate_size
  AlignedBuffer<float> cos_, sin_;  // head_dim / 2
};

}  // namespace bitnet
