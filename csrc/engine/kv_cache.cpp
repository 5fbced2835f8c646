#include "engine/kv_cache.h"

#include <cstring>
#include <new>

#include "base/check.h"
#include "packing/formats.h"

namespace bitnet {
namespace {

constexpr std::int64_t kAlignment = 64;

// `count` elements, from every `from_stride`-th to every `to_stride`-th.
template <class E>
void copy_strided(const std::uint8_t* from, std::int64_t from_stride, std::uint8_t* to,
                  std::int64_t to_stride, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i)
    std::memcpy(to + i * to_stride * static_cast<std::int64_t>(sizeof(E)),
                from + i * from_stride * static_cast<std::int64_t>(sizeof(E)), sizeof(E));
}

void copy_key(KvType type, const std::uint8_t* from, std::int64_t from_stride, std::uint8_t* to,
              std::int64_t to_stride, std::int64_t count) {
  switch (type) {
    case KvType::kF32:
      return copy_strided<float>(from, from_stride, to, to_stride, count);
    case KvType::kF16:
      return copy_strided<std::uint16_t>(from, from_stride, to, to_stride, count);
    case KvType::kInt8:
      return copy_strided<std::uint8_t>(from, from_stride, to, to_stride, count);
  }
}

}  // namespace

void KvCache::Free::operator()(std::uint8_t* memory) const {
  ::operator delete(memory, std::align_val_t{kAlignment});
}

KvCache::KvCache(const ModelConfig& config, std::int64_t capacity, KvType type)
    : capacity_(capacity),
      layers_(config.num_hidden_layers),
      heads_(config.num_key_value_heads),
      head_dim_(config.head_dim),
      type_(type) {
  check_arg(capacity >= 1 && capacity <= (std::int64_t{1} << 31), "session",
            "expected max_seq_len in [1, 2^31], got ", capacity);
  const std::int64_t tokens = round_to_key_tile(capacity);
  const std::int64_t element = kKvTypeBytes[static_cast<int>(type)];
  key_bytes_ = round_up(tokens * head_dim_ * element, kAlignment);
  value_bytes_ = round_up(tokens * round_to_key_tile(head_dim_) * element, kAlignment);
  scale_bytes_ =
      type == KvType::kInt8 ? tokens * static_cast<std::int64_t>(sizeof(float)) : std::int64_t{0};
  head_bytes_ = key_bytes_ + value_bytes_ + 2 * scale_bytes_;
  // Sizes are at most 2^28 each (check_config): the product in double is exact enough to refuse.
  constexpr double kMaxBytes = 0x1p46;
  const double bytes_needed =
      static_cast<double>(layers_) * static_cast<double>(heads_) * static_cast<double>(head_bytes_);
  check_arg(bytes_needed <= kMaxBytes, "session", "expected a KV cache of at most ", kMaxBytes,
            " bytes, got ", bytes_needed, ": choose a smaller max_seq_len");
  memory_.reset(static_cast<std::uint8_t*>(
      ::operator new(static_cast<std::size_t>(bytes()), std::align_val_t{kAlignment})));
}

KvHead KvCache::head(std::int64_t layer, std::int64_t head) {
  std::uint8_t* keys = memory_.get() + (layer * heads_ + head) * head_bytes_;
  std::uint8_t* values = keys + key_bytes_;
  auto* scales = reinterpret_cast<float*>(values + value_bytes_);
  return {type_, head_dim_, keys, values, scales, scales + round_to_key_tile(capacity_)};
}

void KvCache::read_row(const KvHead& head, std::int64_t position, std::uint8_t* key,
                       std::uint8_t* value) {
  const std::int64_t element = kKvTypeBytes[static_cast<int>(type_)];
  const std::uint8_t* from = head.keys + key_index(position, 0, head_dim_) * element;
  copy_key(type_, from, kKeyTile, key, 1, head_dim_);
  const std::int64_t bytes = head_dim_ * element;
  std::memcpy(value, head.values + position * head.value_stride() * element,
              static_cast<std::size_t>(bytes));
  if (type_ != KvType::kInt8) return;
  std::memcpy(key + bytes, head.key_scale + position, sizeof(float));
  std::memcpy(value + bytes, head.value_scale + position, sizeof(float));
}

void KvCache::write_row(const KvHead& head, std::int64_t position, const std::uint8_t* key,
                        const std::uint8_t* value) {
  const std::int64_t element = kKvTypeBytes[static_cast<int>(type_)];
  std::uint8_t* tile = head.keys + key_index(position, 0, head_dim_) * element;
  copy_key(type_, key, 1, tile, kKeyTile, head_dim_);
  const std::int64_t bytes = head_dim_ * element;
  std::uint8_t* to = head.values + position * head.value_stride() * element;
  std::memcpy(to, value, static_cast<std::size_t>(bytes));
  std::memset(to + bytes, 0, static_cast<std::size_t>(head.value_stride() * element - bytes));
  if (type_ != KvType::kInt8) return;
  std::memcpy(head.key_scale + position, key + bytes, sizeof(float));
  std::memcpy(head.value_scale + position, value + bytes, sizeof(float));
}

}  // namespace bitnet
