// Owns: the fields that describe a decoder, with their defaults. Architectures differ by these
// fields, not by class. Names follow Hugging Face's configs.
#pragma once

#include <cstdint>

#include "kernels/kernel_table.h"  // Activation

namespace bitnet {

enum class RopeType : int { kDefault, kLinear, kLlama3 };

struct ModelConfig {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-5;
  Activation hidden_act = Activation::kSilu;
  bool tie_word_embeddings = false;
  bool attention_bias = false;         // q, k, v
  bool attention_output_bias = false;  // o
  bool mlp_bias = false;               // gate, up, down
  bool attn_sub_norm = false;          // RMSNorm before o_proj (SubLN, arXiv 2210.06423)
  bool ffn_sub_norm = false;           // RMSNorm before down_proj
  double rope_theta = 10000.0;
  RopeType rope_type = RopeType::kDefault;
  double rope_factor = 1.0;
  double rope_low_freq_factor = 1.0;  // llama3 only, as the two below
  double rope_high_freq_factor = 4.0;
  std::int64_t rope_original_max_position_embeddings = 8192;

  std::int64_t q_size() const { return num_attention_heads * head_dim; }
  std::int64_t kv_size() const { return num_key_value_heads * head_dim; }
};

// visit(name, field, required) for every field: the one list that parsing, printing and
// documentation go through.
template <class Config, class Visitor>
void visit_fields(Config& c, Visitor&& visit) {
  visit("vocab_size", c.vocab_size, true);
  visit("hidden_size", c.hidden_size, true);
  visit("intermediate_size", c.intermediate_size, true);
  visit("num_hidden_layers", c.num_hidden_layers, true);
  visit("num_attention_heads", c.num_attention_heads, true);
  visit("num_key_value_heads", c.num_key_value_heads, true);
  visit("head_dim", c.head_dim, true);
  visit("max_position_embeddings", c.max_position_embeddings, true);
  visit("rms_norm_eps", c.rms_norm_eps, false);
  visit("hidden_act", c.hidden_act, false);
  visit("tie_word_embeddings", c.tie_word_embeddings, false);
  visit("attention_bias", c.attention_bias, false);
  visit("attention_output_bias", c.attention_output_bias, false);
  visit("mlp_bias", c.mlp_bias, false);
  visit("attn_sub_norm", c.attn_sub_norm, false);
  visit("ffn_sub_norm", c.ffn_sub_norm, false);
  visit("rope_theta", c.rope_theta, false);
  visit("rope_type", c.rope_type, false);
  visit("rope_factor", c.rope_factor, false);
  visit("rope_low_freq_factor", c.rope_low_freq_factor, false);
  visit("rope_high_freq_factor", c.rope_high_freq_factor, false);
  visit("rope_original_max_position_embeddings", c.rope_original_max_position_embeddings, false);
}

// Names of the enum fields, in the order of their values.
inline constexpr const char* kActivationNames[] = {"silu", "relu2", "gelu_tanh"};
inline constexpr const char* kRopeTypeNames[] = {"default", "linear", "llama3"};

// ValueError when a field is out of its range or two do not fit each other.
void check_config(const ModelConfig& config);

}  // namespace bitnet
