// Owns: the keys and values of one sequence, and how many tokens of it are valid.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/model_config.h"

namespace bitnet {

class KvCache {
 public:
  KvCache(const ModelConfig& config, std::int64_t capacity, KvType type);

  std::int64_t capacity() const { return capacity_; }  // tokens
  std::int64_t length() const { return length_; }      // tokens
  KvType type() const { return type_; }
  std::int64_t row_bytes() const { return row_bytes_; }  // one head, one token
  std::int64_t heads() const { return heads_; }
  std::int64_t layers() const { return layers_; }
  std::int64_t bytes() const { return 2 * layers_ * heads_ * capacity_ * row_bytes_; }
  void set_length(std::int64_t length) { length_ = length; }

  // [capacity, head_dim] of one layer and KV head, contiguous.
  std::uint8_t* keys(std::int64_t layer, std::int64_t head) {
    return memory_.get() + offset(layer, head);
  }
  std::uint8_t* values(std::int64_t layer, std::int64_t head) {
    return memory_.get() + offset(layers_ + layer, head);
  }

 private:
  std::int64_t offset(std::int64_t plane, std::int64_t head) const {
    return (plane * heads_ + head) * capacity_ * row_bytes_;
  }
  struct Free {
    void operator()(std::uint8_t* memory) const;
  };
  std::int64_t capacity_, length_ = 0, layers_, heads_, row_bytes_;
  KvType type_;
  std::unique_ptr<std::uint8_t, Free> memory_;  // untouched pages cost nothing
};

}  // namespace bitnet
