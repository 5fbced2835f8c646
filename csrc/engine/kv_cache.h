// Owns: the keys and values of one sequence, and how many tokens of it are valid.
// Does not own: how one head's keys and values lie (kernels/kv_layout.h).
#pragma once

#include <cstdint>
#include <memory>

#include "engine/model_config.h"
#include "kernels/kv_layout.h"

namespace bitnet {

// Bytes of one token's key (or value) of one head as export gives them: elements, then the scale.
inline std::int64_t kv_row_bytes(std::int64_t head_dim, KvType type) {
  return head_dim * kKvTypeBytes[static_cast<int>(type)] +
         (type == KvType::kInt8 ? static_cast<std::int64_t>(sizeof(float)) : 0);
}

class KvCache {
 public:
  KvCache(const ModelConfig& config, std::int64_t capacity, KvType type);

  std::int64_t capacity() const { return capacity_; }  // tokens
  std::int64_t length() const { return length_; }      // tokens
  KvType type() const { return type_; }
  std::int64_t row_bytes() const { return kv_row_bytes(head_dim_, type_); }
  std::int64_t heads() const { return heads_; }
  std::int64_t layers() const { return layers_; }
  std::int64_t bytes() const { return layers_ * heads_ * head_bytes_; }
  void set_length(std::int64_t length) { length_ = length; }

  KvHead head(std::int64_t layer, std::int64_t head);

  // One token of one head out of the cache and into it; key, value: row_bytes() each.
  void read_row(const KvHead& head, std::int64_t position, std::uint8_t* key, std::uint8_t* value);
  void write_row(const KvHead& head, std::int64_t position, const std::uint8_t* key,
                 const std::uint8_t* value);

 private:
  struct Free {
    void operator()(std::uint8_t* memory) const;
  };
  std::int64_t capacity_, length_ = 0, layers_, heads_, head_dim_;
  KvType type_;
  std::int64_t key_bytes_, value_bytes_, scale_bytes_, head_bytes_;  // of one head, aligned
  std::unique_ptr<std::uint8_t, Free> memory_;                       // untouched pages cost nothing
};

}  // namespace bitnet
