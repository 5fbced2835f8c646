// Owns: a token's key and value into the KV cache (kv_layout.h), as a loop over an ISA's
// primitives.
#pragma once

#include "kernels/kernel_table.h"
#include "kernels/lanes_inl.h"

namespace bitnet {
namespace {

// Keys go through a row of their own before they are dealt to their tile.
template <class S, class E>
void store_rounded(const float* k, const float* v, const KvHead& to, std::int64_t position) {
  E* key = reinterpret_cast<E*>(to.keys) + key_index(position, 0, to.head_dim);
  for (std::int64_t d = 0; d < to.head_dim; d += kLanes) {
    const std::int64_t count = smaller(kLanes, to.head_dim - d);
    E lanes[kLanes];
    S::store(lanes, count == kLanes ? S::load(k + d) : load_some<S>(k + d, count));
    for (std::int64_t i = 0; i < count; ++i) key[(d + i) * kKeyTile] = lanes[i];
  }
  E* value = reinterpret_cast<E*>(to.values) + position * to.value_stride();
  for_lanes<S>(to.head_dim, [=](auto load, auto store) { store(value, load(v)); });
  for (std::int64_t d = to.head_dim; d < to.value_stride(); ++d) value[d] = E{};
}

// Calls put(d, code) for every column; returns the scale. What is not finite makes it NaN.
template <class S, class Put>
float quantize_row(const float* x, std::int64_t n, const Put& put) {
  float most = kLeastKvAbsmax, nothing = 0.0f;
  for (std::int64_t d = 0; d < n; ++d) {
    const float magnitude = __builtin_fabsf(x[d]);
    most = magnitude > most ? magnitude : most;
    nothing += 0.0f * x[d];
  }
  const auto ratio = S::set(127.0f / most);
  for (std::int64_t d = 0; d < n; d += kLanes) {
    const std::int64_t count = smaller(kLanes, n - d);
    const auto values = count == kLanes ? S::load(x + d) : load_some<S>(x + d, count);
    std::int8_t codes[kLanes];
    S::store_int8(codes, S::clip_int8(S::to_int(S::mul(values, ratio))));
    for (std::int64_t i = 0; i < count; ++i) put(d + i, codes[i]);
  }
  return most / 127.0f + nothing;
}

template <class S>
void store_int8_kv(const float* k, const float* v, const KvHead& to, std::int64_t position) {
  auto* key = reinterpret_cast<std::int8_t*>(to.keys) + key_index(position, 0, to.head_dim);
  auto* value = reinterpret_cast<std::int8_t*>(to.values) + position * to.value_stride();
  to.key_scale[position] = quantize_row<S>(
      k, to.head_dim, [=](std::int64_t d, std::int8_t code) { key[d * kKeyTile] = code; });
  to.value_scale[position] =
      quantize_row<S>(v, to.head_dim, [=](std::int64_t d, std::int8_t code) { value[d] = code; });
  for (std::int64_t d = to.head_dim; d < to.value_stride(); ++d) value[d] = 0;
}

template <class S>
void store_kv(const float* k, const float* v, const KvHead& to, std::int64_t position) {
  switch (to.type) {
    case KvType::kF32:
      return store_rounded<S, float>(k, v, to, position);
    case KvType::kF16:
      return store_rounded<S, F16>(k, v, to, position);
    case KvType::kInt8:
      return store_int8_kv<S>(k, v, to, position);
  }
}

}  // namespace
}  // namespace bitnet
