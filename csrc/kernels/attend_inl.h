// Owns: attention over one block of keys, and the merging of blocks (online softmax, arXiv
// 2205.14135), as loop nests over an ISA's primitives. Queries are taken in tiles that share what
// is loaded; every output element is still computed in one order of its own, over the columns of a
// key and over the keys of a block: neither tile shapes, nor the width of registers, nor the other
// queries of a call change a bit of it.
//
// Beside what lanes_inl.h asks, `S` says here
//   kWidth                    lanes in F, 8 or 16 (16 for attention alone)
//   kRegisters                registers of type F
//   load(const int8*) -> F
#pragma once

#include "kernels/float_inl.h"
#include "kernels/kernel_table.h"
#include "kernels/lanes_inl.h"

namespace bitnet {
namespace {

constexpr float kLowest = -__builtin_huge_valf();

// Queries that share loads. At most kMostVecs registers of keys or columns go with them.
constexpr int kQueryTile = 6, kMostVecs = 8;
// With few queries the keys and values come from memory, in streams too short for the hardware to
// follow: the next group of keys, and values so many rows ahead, are asked for.
constexpr int kFewQueries = 4;
constexpr std::int64_t kRowsAhead = 16;

template <class S, int kQueries>
constexpr int tile_vecs() {
  int vecs = kMostVecs;
  while (vecs * kQueries > S::kRegisters - 4) vecs /= 2;
  return vecs;
}

struct QueryTile {
  const float* q[kQueryTile];
  float* scores[kQueryTile];       // [kKeyBlock]
  float* partial[kQueryTile];      // as in AttendArgs
  std::int64_t count[kQueryTile];  // keys of the block that each one sees
};

// scores[i][j] = scale * q_i . k_j for keys [0, count) of a block that begins at `position`; up to
// the next multiple of kMostVecs registers, scores of no meaning follow.
template <class S, class E, int kQueries>
BITNET_NEST void score_keys(const QueryTile& tile, const KvHead& kv, std::int64_t position,
                            std::int64_t count, float scale) {
  using F = typename S::F;
  constexpr int kVecs = tile_vecs<S, kQueries>(), kWidth = S::kWidth;
  const std::int64_t dim = kv.head_dim, last = (count - 1) / kWidth * kWidth;
  const E* keys = reinterpret_cast<const E*>(kv.keys) + key_index(position, 0, dim);
  for (std::int64_t j = 0; j < count; j += kVecs * kWidth) {
    const E* key[kVecs];  // past the last register, that one stands in
    repeat<kVecs>(
        [&](auto b) { key[b] = keys + key_index(smaller(j + b * kWidth, last), 0, dim); });
    F dot[kQueries][kVecs];
    const auto each_dot = [](auto fn) {
      repeat<kQueries>([&](auto a) { repeat<kVecs>([&](auto b) { fn(a, b); }); });
    };
    each_dot([&](auto a, auto b) { dot[a][b] = S::set(0.0f); });
    for (std::int64_t d = 0; d < dim; ++d) {
      F k[kVecs];
      repeat<kVecs>([&](auto b) {
        k[b] = S::load(key[b] + d * kKeyTile);
        if (kQueries <= kFewQueries) S::prefetch(key[b] + d * kKeyTile + kVecs * kWidth * dim);
      });
      repeat<kQueries>([&](auto a) {
        const F q = S::keep(S::set(tile.q[a][d]));
        repeat<kVecs>([&](auto b) { dot[a][b] = S::fma(q, k[b], dot[a][b]); });
      });
    }
    const F factor = S::set(scale);
    each_dot([&](auto a, auto b) {
      F score = S::mul(dot[a][b], factor);
      if constexpr (sizeof(E) == 1)
        score = S::mul(score, S::load(kv.key_scale + position + smaller(j + b * kWidth, last)));
      S::store(tile.scores[a] + j + b * kWidth, score);
    });
  }
}

// Turns `count` scores into exp(score - max), returning max and sum. Lanes past the end become 0.
template <class S>
BITNET_NEST void exp_scores(float* scores, std::int64_t count, float* max, float* sum) {
  using F = typename S::F;
  constexpr std::int64_t kWidth = S::kWidth;
  for (std::int64_t j = count; j % kWidth != 0; ++j) scores[j] = kLowest;
  F most = S::set(kLowest);
  for (std::int64_t j = 0; j < count; j += kWidth) most = S::max(S::load(scores + j), most);
  *max = S::largest(most);
  const F shift = S::set(*max);
  F total = S::set(0.0f);
  for (std::int64_t j = 0; j < count; j += kWidth) {
    const F p = exp<S>(S::sub(S::load(scores + j), shift));
    S::store(scores + j, p);
    total = S::add(total, p);
  }
  *sum = S::sum(total);
}

// partial[i] += sum of p_ij * v_j over keys [begin, end) of a block, in order, for the queries from
// `first`, in kCount registers of columns from d.
template <class S, class E, int kQueries, int kCount>
BITNET_NEST void add_columns(const QueryTile& tile, int first, const E* values, std::int64_t stride,
                             std::int64_t begin, std::int64_t end, std::int64_t d) {
  using F = typename S::F;
  constexpr int kWidth = S::kWidth;
  F sum[kQueries][kCount];
  const auto each_sum = [](auto fn) {
    repeat<kQueries>([&](auto a) { repeat<kCount>([&](auto c) { fn(a, c); }); });
  };
  const auto at = [&](auto a, auto c) {
    return tile.partial[first + a] + kPartialHeader + d + c * kWidth;
  };
  each_sum([&](auto a, auto c) { sum[a][c] = S::load(at(a, c)); });
  for (std::int64_t j = begin; j < end; ++j) {
    const E* value = values + j * stride + d;
    F v[kCount];
    repeat<kCount>([&](auto c) {
      v[c] = S::load(value + c * kWidth);
      if (kQueries <= kFewQueries) S::prefetch(value + c * kWidth + kRowsAhead * stride);
    });
    repeat<kQueries>([&](auto a) {
      const F p = S::keep(S::set(tile.scores[first + a][j]));
      repeat<kCount>([&](auto c) { sum[a][c] = S::fma(p, v[c], sum[a][c]); });
    });
  }
  each_sum([&](auto a, auto c) { S::store(at(a, c), sum[a][c]); });
}

// All columns, the last of them in fewer registers.
template <class S, class E, int kQueries, int kCount = tile_vecs<S, kQueries>()>
void add_values(const QueryTile& tile, int first, const E* values, std::int64_t stride,
                std::int64_t begin, std::int64_t end, std::int64_t d = 0) {
  for (; d + kCount * S::kWidth <= stride; d += kCount * S::kWidth)
    add_columns<S, E, kQueries, kCount>(tile, first, values, stride, begin, end, d);
  if constexpr (kCount > 1)
    if (d < stride)
      add_values<S, E, kQueries, kCount / 2>(tile, first, values, stride, begin, end, d);
}

template <class S, class E, int kQueries>
void attend_tile(const AttendArgs& args, std::int64_t first, std::int64_t position,
                 float* partial) {
  const KvHead& kv = args.kv;
  const std::int64_t stride = kv.value_stride(), floats = partial_floats(kv.head_dim);
  QueryTile tile;
  std::int64_t fewest = kKeyBlock, most = 0;
  for (int a = 0; a < kQueries; ++a) {
    tile.q[a] = args.q[first + a];
    tile.scores[a] = args.scratch + (first + a) * kKeyBlock;
    tile.partial[a] = partial + (first + a) * floats;
    for (std::int64_t i = 0; i < floats; ++i) tile.partial[a][i] = 0.0f;
    tile.partial[a][0] = kLowest;
    tile.count[a] = larger(0, smaller(kKeyBlock, args.n_keys[first + a] - position));
    fewest = smaller(fewest, tile.count[a]);
    most = larger(most, tile.count[a]);
  }
  if (most == 0) return;
  score_keys<S, E, kQueries>(tile, kv, position, most, args.scale);
  for (int a = 0; a < kQueries; ++a) {
    if (tile.count[a] == 0) continue;
    exp_scores<S>(tile.scores[a], tile.count[a], &tile.partial[a][0], &tile.partial[a][1]);
    if constexpr (sizeof(E) == 1)
      for (std::int64_t j = 0; j < tile.count[a]; ++j)
        tile.scores[a][j] *= kv.value_scale[position + j];
  }
  const E* values = reinterpret_cast<const E*>(kv.values) + position * stride;
  add_values<S, E, kQueries>(tile, 0, values, stride, 0, fewest);
  // A key that only some queries see must not touch the others: 0 * v is not 0 for an infinite v.
  for (int a = 0; a < kQueries; ++a)
    if (tile.count[a] > fewest) add_values<S, E, 1>(tile, a, values, stride, fewest, tile.count[a]);
}

template <class S, class E>
void attend_tiles(const AttendArgs& args, std::int64_t position, float* partial) {
  std::int64_t i = 0;
  for (; i + 6 <= args.queries; i += 6) attend_tile<S, E, 6>(args, i, position, partial);
  for (; i + 4 <= args.queries; i += 4) attend_tile<S, E, 4>(args, i, position, partial);
  for (; i + 2 <= args.queries; i += 2) attend_tile<S, E, 2>(args, i, position, partial);
  for (; i < args.queries; ++i) attend_tile<S, E, 1>(args, i, position, partial);
}

template <class S>
void attend_block(const AttendArgs& args, std::int64_t block, float* partial) {
  const std::int64_t position = block * kKeyBlock;
  switch (args.kv.type) {
    case KvType::kF32:
      return attend_tiles<S, float>(args, position, partial);
    case KvType::kF16:
      return attend_tiles<S, F16>(args, position, partial);
    case KvType::kInt8:
      return attend_tiles<S, std::int8_t>(args, position, partial);
  }
}

template <class S>
void attend_merge(const float* partial, std::int64_t queries, std::int64_t head_dim, float* total) {
  using F = typename S::F;
  const std::int64_t floats = partial_floats(head_dim);
  for (; queries > 0; --queries, partial += floats, total += floats) {
    if (partial[0] == kLowest && partial[1] == 0.0f) continue;  // it sees no key of this block
    const float max = partial[0] > total[0] ? partial[0] : total[0];
    float factors[S::kWidth] = {total[0] - max, partial[0] - max};
    S::store(factors, exp<S>(S::load(factors)));
    const F old_factor = S::set(factors[0]), new_factor = S::set(factors[1]);
    for (std::int64_t d = kPartialHeader; d < floats; d += S::kWidth) {
      const F kept = S::mul(S::load(total + d), old_factor);
      S::store(total + d, S::fma(S::load(partial + d), new_factor, kept));
    }
    total[0] = max;
    total[1] = total[1] * factors[0] + partial[1] * factors[1];
  }
}

template <class S>
void attend_finish(const float* total, std::int64_t head_dim, float* out) {
  const auto sum = S::set(total[1]);
  for_lanes<S>(head_dim, [&](auto load, auto store) {
    store(out, S::div(load(total + kPartialHeader), sum));
  });
}

}  // namespace
}  // namespace bitnet
