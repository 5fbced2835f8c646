#include "engine/tensor_specs.h"

#include <cmath>

#include "base/check.h"
#include "packing/int8.h"

namespace bitnet {
namespace {

// Any size above this is a broken config; below it no product of two sizes overflows.
constexpr std::int64_t kMaxSize = std::int64_t{1} << 28;

struct RangeCheck {
  void operator()(const char* name, std::int64_t value, bool) const {
    check_arg(value >= 1 && value <= kMaxSize, "config", "expected ", name, " in [1, ", kMaxSize,
              "], got ", value);
  }
  void operator()(const char* name, double value, bool) const {
    check_arg(std::isfinite(value) && value > 0, "config", "expected a positive finite ", name,
              ", got ", value);
  }
  void operator()(const char*, bool, bool) const {}
  void operator()(const char*, Activation, bool) const {}
  void operator()(const char*, RopeType, bool) const {}
};

}  // namespace

void check_config(const ModelConfig& c) {
  visit_fields(c, RangeCheck{});
  check_arg(c.num_attention_heads % c.num_key_value_heads == 0, "config",
            "expected num_attention_heads to be a multiple of num_key_value_heads, got ",
            c.num_attention_heads, " and ", c.num_key_value_heads);
  check_arg(c.head_dim % 2 == 0, "config", "expected an even head_dim, got ", c.head_dim);
  for (const std::int64_t columns : {c.hidden_size, c.intermediate_size, c.q_size()})
    check_arg(
        columns <= int8::kMaxColumns, "config",
        "expected hidden_size, intermediate_size and num_attention_heads * head_dim of at most ",
        int8::kMaxColumns, ", got ", columns);
  check_arg(c.rope_type != RopeType::kLlama3 || c.rope_high_freq_factor > c.rope_low_freq_factor,
            "config", "expected rope_high_freq_factor above rope_low_freq_factor, got ",
            c.rope_high_freq_factor, " and ", c.rope_low_freq_factor);
}

const char* tensor_role_name(TensorRole role) {
  constexpr const char* kNames[] = {"embedding", "linear", "head", "norm", "bias"};
  return kNames[static_cast<int>(role)];
}

std::vector<TensorSpec> tensor_specs(const ModelConfig& c) {
  std::vector<TensorSpec> specs;
  const auto norm = [&](const std::string& name, std::int64_t n) {
    specs.push_back({name + ".weight", TensorRole::kNorm, n, 0});
  };
  const auto linear = [&](const std::string& name, std::int64_t n, std::int64_t k, bool bias) {
    specs.push_back({name + ".weight", TensorRole::kLinear, n, k});
    if (bias) specs.push_back({name + ".bias", TensorRole::kBias, n, 0});
  };
  const std::int64_t hidden = c.hidden_size, inter = c.intermediate_size;

  specs.push_back({"model.embed_tokens.weight", TensorRole::kEmbedding, c.vocab_size, hidden});
  for (std::int64_t i = 0; i < c.num_hidden_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    norm(layer + "input_layernorm", hidden);
    linear(layer + "self_attn.q_proj", c.q_size(), hidden, c.attention_bias);
    linear(layer + "self_attn.k_proj", c.kv_size(), hidden, c.attention_bias);
    linear(layer + "self_attn.v_proj", c.kv_size(), hidden, c.attention_bias);
    if (c.attn_sub_norm) norm(layer + "self_attn.attn_sub_norm", c.q_size());
    linear(layer + "self_attn.o_proj", hidden, c.q_size(), c.attention_output_bias);
    norm(layer + "post_attention_layernorm", hidden);
    linear(layer + "mlp.gate_proj", inter, hidden, c.mlp_bias);
    linear(layer + "mlp.up_proj", inter, hidden, c.mlp_bias);
    if (c.ffn_sub_norm) norm(layer + "mlp.ffn_sub_norm", inter);
    linear(layer + "mlp.down_proj", hidden, inter, c.mlp_bias);
  }
  norm("model.norm", hidden);
  if (!c.tie_word_embeddings)
    specs.push_back({"lm_head.weight", TensorRole::kHead, c.vocab_size, hidden});
  return specs;
}

}  // namespace bitnet
