#include "engine/kv_cache.h"

#include <cstdlib>
#include <new>

#include "base/check.h"

namespace bitnet {

void KvCache::Free::operator()(std::uint8_t* memory) const {
  ::operator delete(memory, std::align_val_t{64});
}

KvCache::KvCache(const ModelConfig& config, std::int64_t capacity, KvType type)
    : capacity_(capacity),
      layers_(config.num_hidden_layers),
      heads_(config.num_key_value_heads),
      row_bytes_(config.head_dim * kv_type_bytes(type)),
      type_(type) {
  check_arg(capacity >= 1 && capacity <= (std::int64_t{1} << 31), "session",
            "expected max_seq_len in [1, 2^31], got ", capacity);
  // Sizes are at most 2^28 each (check_config): the product in double is exact enough to refuse.
  constexpr double kMaxBytes = 0x1p46;
  const double bytes_needed = 2.0 * static_cast<double>(layers_) * static_cast<double>(heads_) *
                              static_cast<double>(capacity) * static_cast<double>(row_bytes_);
  check_arg(bytes_needed <= kMaxBytes, "session", "expected a KV cache of at most ", kMaxBytes,
            " bytes, got ", bytes_needed, ": choose a smaller max_seq_len");
  memory_.reset(static_cast<std::uint8_t*>(
      ::operator new(static_cast<std::size_t>(bytes()), std::align_val_t{64})));
}

}  // namespace bitnet
