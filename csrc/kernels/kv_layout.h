// Owns: how the keys and values of one KV head lie in memory. Everyone else includes this.
//
//   keys    [ceil(capacity / 16)][head_dim][16]   16 neighbouring keys side by side: the lanes of a
//                                                 product are keys, so it needs no horizontal sum
//   values  [capacity][head_dim padded to 16]     the lanes of a product are columns
//
// Elements are float32, float16, or int8 with one float32 scale per token (kLeastKvAbsmax or
// absmax, the larger, / 127), for keys and for values. Padded columns of values hold zeros. Lanes
// of keys that are not stored yet may hold anything: nobody looks at their scores.
#pragma once

#include <cstdint>

namespace bitnet {

enum class KvType : int { kF32, kF16, kInt8 };
inline constexpr std::int64_t kKvTypeBytes[] = {4, 2, 1};
inline constexpr const char* kKvTypeNames[] = {"f32", "f16", "int8"};

// Of int8 rows: a smaller one has no quotient 127 / absmax in float32.
inline constexpr float kLeastKvAbsmax = 1e-36f;

inline constexpr std::int64_t kKeyTile = 16;

constexpr std::int64_t round_to_key_tile(std::int64_t n) {
  return (n + kKeyTile - 1) / kKeyTile * kKeyTile;
}

struct KvHead {
  KvType type;
  std::int64_t head_dim;
  std::uint8_t* keys;
  std::uint8_t* values;
  float* key_scale;  // [capacity]; int8 only
  float* value_scale;

  std::int64_t value_stride() const { return round_to_key_tile(head_dim); }  // elements
};

// Elements from the first, of column d of the key at `position`.
constexpr std::int64_t key_index(std::int64_t position, std::int64_t d, std::int64_t head_dim) {
  return (position / kKeyTile * head_dim + d) * kKeyTile + position % kKeyTile;
}

}  // namespace bitnet
