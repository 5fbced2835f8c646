#include "engine/decoder.h"

#include <algorithm>

#include "engine/rope.h"

namespace bitnet {
namespace {

// Rows that go through the layers together. More would only cost memory.
constexpr std::size_t kMaxRows = 256;

}  // namespace

Decoder::Decoder(const ModelConfig& config, const Weights& weights, Ops& ops)
    : config_(config), weights_(weights), ops_(ops), inv_freq_(rope_inverse_frequencies(config)) {}

void Decoder::layer(const std::vector<BatchRow>& rows, std::int64_t index) {
  const LayerWeights& w = weights_.layers[static_cast<std::size_t>(index)];
  const auto tokens = static_cast<std::int64_t>(rows.size());
  const auto eps = static_cast<float>(config_.rms_norm_eps);
  float *x = x_.data(), *q = q_.data(), *k = k_.data(), *v = v_.data(), *attn = attn_.data(),
        *ffn = ffn_.data();

  ops_.linears({x, w.input_layernorm, eps}, tokens,
               {{&w.q_proj, q, false}, {&w.k_proj, k, false}, {&w.v_proj, v, false}});
  ops_.rope_append(rows, index, cos_.data(), sin_.data(), q, k, v);
  ops_.attend(rows, index, q, attn);
  ops_.linears({attn, w.attn_sub_norm, eps}, tokens, {{&w.o_proj, x, true}});

  ops_.gated_linears({x, w.post_attention_layernorm, eps}, tokens, w.gate_proj, w.up_proj,
                     config_.hidden_act, up_.data(), ffn);
  ops_.linears({ffn, w.ffn_sub_norm, eps}, tokens, {{&w.down_proj, x, true}});
}

std::int64_t Decoder::write_logits(const std::vector<Row>& rows, float* logits) {
  // The rows that want logits move to the front of x, which nobody reads after this.
  const std::int64_t hidden = config_.hidden_size;
  std::int64_t count = 0;
  for (std::size_t t = 0; t < rows.size(); ++t) {
    if (!rows[t].wants_logits) continue;
    const float* from = x_.data() + static_cast<std::int64_t>(t) * hidden;
    float* to = x_.data() + count++ * hidden;
    if (from != to) std::copy(from, from + hidden, to);
  }
  if (count > 0)
    ops_.linears({x_.data(), weights_.norm, static_cast<float>(config_.rms_norm_eps)}, count,
                 {{&weights_.lm_head, logits, false}});
  return count;
}

std::int64_t Decoder::forward_rows(const std::vector<Row>& rows, float* logits,
                                   const std::function<void()>& poll) {
  const auto tokens = static_cast<std::int64_t>(rows.size());
  const std::int64_t half = config_.head_dim / 2;
  std::int32_t* ids = ids_.reserve(tokens);
  x_.reserve(tokens * config_.hidden_size);
  q_.reserve(tokens * config_.q_size());
  attn_.reserve(tokens * config_.q_size());
  k_.reserve(tokens * config_.kv_size());
  v_.reserve(tokens * config_.kv_size());
  ffn_.reserve(tokens * config_.intermediate_size);
  up_.reserve(tokens * config_.intermediate_size);
  cos_.reserve(tokens * half);
  sin_.reserve(tokens * half);

  std::vector<BatchRow> places(rows.begin(), rows.end());
  for (std::int64_t t = 0; t < tokens; ++t) {
    const Row& row = rows[static_cast<std::size_t>(t)];
    ids[t] = row.id;
    rope_angles(inv_freq_, row.position, cos_.data() + t * half, sin_.data() + t * half);
  }
  ops_.embed(weights_.embed_tokens, ids, tokens, x_.data());
  for (std::int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    poll();
    layer(places, i);
  }
  return write_logits(rows, logits);
}

void Decoder::forward(const std::vector<SequenceInput>& inputs, LogitRows want, float* logits,
                      const std::function<void()>& poll) {
  std::vector<Row> rows;
  for (const SequenceInput& input : inputs)
    for (std::int64_t i = 0; i < input.count; ++i) {
      Row row;
      row.cache = input.cache;
      row.position = input.cache->length() + i;
      row.id = input.ids[i];
      row.wants_logits =
          want == LogitRows::kAll || (want == LogitRows::kLast && i == input.count - 1);
      rows.push_back(row);
    }
  for (std::size_t begin = 0; begin < rows.size(); begin += kMaxRows) {
    const std::size_t end = std::min(rows.size(), begin + kMaxRows);
    const std::vector<Row> slice(rows.begin() + static_cast<std::ptrdiff_t>(begin),
                                 rows.begin() + static_cast<std::ptrdiff_t>(end));
    logits += config_.vocab_size * forward_rows(slice, logits, poll);
  }
  // Only now do the new tokens count: an exception above leaves every length as it was.
  for (const SequenceInput& input : inputs)
    input.cache->set_length(input.cache->length() + input.count);
}

}  // namespace bitnet
