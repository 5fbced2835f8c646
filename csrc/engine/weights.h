// Owns: from named arrays to the views that the decoder walks. Nothing is copied, whoever built the
// arrays keeps them alive; except that codes of a format that the kernels do not multiply (trits5
// without AVX-512 VBMI) are expanded to ternary2 once.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/page_buffer.h"
#include "base/thread_pool.h"
#include "engine/model_config.h"
#include "kernels/kernel_table.h"
#include "packing/formats.h"

namespace bitnet {

// One stored tensor as handed over from outside, unchecked.
struct TensorView {
  Format format;
  ScaleKind scale_kind;
  const std::uint8_t* data;
  std::int64_t data_bytes;
  const void* scale;  // nullptr: none
  std::int64_t scale_count;
  bool scale_is_f16;
};

struct Linear {
  Format format = Format::kF32;
  ScaleKind scale_kind = ScaleKind::kNone;
  bool scale_is_f16 = false;
  std::int64_t n = 0, k = 0;             // [n out, k in]
  const std::uint8_t* weight = nullptr;  // as stored
  const void* scale = nullptr;
  const float* bias = nullptr;  // [n] or nullptr
};

struct LayerWeights {
  const float* input_layernorm;           // [hidden_size]
  Linear q_proj, k_proj, v_proj, o_proj;  // [q_size | kv_size, hidden_size], [hidden_size, q_size]
  const float* attn_sub_norm;             // [q_size] or nullptr
  const float* post_attention_layernorm;  // [hidden_size]
  Linear gate_proj, up_proj, down_proj;   // [intermediate_size, hidden_size] and back
  const float* ffn_sub_norm;              // [intermediate_size] or nullptr
};

struct Weights {
  Linear embed_tokens;  // [vocab_size, hidden_size]
  std::vector<LayerWeights> layers;
  const float* norm;    // [hidden_size]
  Linear lm_head;       // [vocab_size, hidden_size]; embed_tokens when tied
  PageBuffer expanded;  // what some of the Linears above view
};

// Checks the map against tensor_specs(config): nothing missing, nothing extra, sizes and formats
// right. validate: also one pass over all codes, padding and scales, on every thread. ValueError
// names the tensor and the rule. on_expanded(name): the tensor's own codes will not be read again.
Weights build_weights(const ModelConfig& config, const std::map<std::string, TensorView>& tensors,
                      bool validate, const KernelTable& kernels, ThreadPool& pool,
                      const std::function<void(const std::string& name)>& on_expanded);

// One row of a stored weight as float32 [k].
void dequantize_row(const Linear& weight, std::int64_t row, float* out);

}  // namespace bitnet
