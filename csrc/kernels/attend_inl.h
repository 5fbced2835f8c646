// Owns: attention of a few queries over the keys of one KV head, by blocks of keys with an online
// softmax (arXiv 2205.14135), as a loop nest over an ISA's primitives (lanes_inl.h).
//
// Queries go four at a time, so that the heads of a GQA group in decode, or neighbouring tokens in
// prefill, share each load of K and V. Every score and every output element is still computed in
// one order of its own: neither tile shapes nor the other queries of a call change a bit.
#pragma once

#include "kernels/float_inl.h"
#include "kernels/kernel_table.h"
#include "kernels/lanes_inl.h"

namespace bitnet {
namespace {

constexpr int kQueryTile = 4;

template <int kCount>
struct Count {
  static constexpr int kValue = kCount;
};

// What a tile of queries carries through the blocks of keys.
struct QueryTile {
  const float* q[kQueryTile];
  float* out[kQueryTile];  // the running sum of exp(score) * v
  float* scores[kQueryTile];
  float* block_out[kQueryTile];
  float max[kQueryTile], sum[kQueryTile];
  std::int64_t n_keys[kQueryTile];
  std::int64_t head_dim;
};

// What several queries use is loaded once; for one, it may stay an operand in memory.
template <class S, int kQueries>
typename S::F shared(typename S::F v) {
  return kQueries > 1 ? S::keep(v) : v;
}

// scores[i][j] = scale * q_i . k_j for keys [0, count) of a block; up to 7 scores more are written.
template <class S, class E, int kQueries>
BITNET_NEST void score_keys(const QueryTile& tile, const E* keys, std::int64_t count, float scale) {
  using F = typename S::F;
  constexpr int kKeys = kQueries == 1 ? 8 : kQueries == 2 ? 4 : 2;
  for (std::int64_t j = 0; j < count; j += kKeys) {
    const E* key[kKeys];
    repeat<kKeys>([&](auto b) { key[b] = keys + smaller(j + b, count - 1) * tile.head_dim; });
    F dot[kLanes];
    repeat<kLanes>([&](auto i) { dot[i] = S::set(0.0f); });
    for_lanes<S>(tile.head_dim, [&](auto load, auto) {
      F q[kQueries];
      repeat<kQueries>([&](auto a) { q[a] = S::keep(load(tile.q[a])); });
      repeat<kKeys>([&](auto b) {
        const F k = shared<S, kQueries>(load(key[b]));
        repeat<kQueries>([&](auto a) { dot[a * kKeys + b] = S::fma(q[a], k, dot[a * kKeys + b]); });
      });
    });
    float dots[kLanes];
    S::store(dots, S::mul(S::sums(dot), S::set(scale)));
    for (int a = 0; a < kQueries; ++a)
      for (int b = 0; b < kKeys; ++b) tile.scores[a][j + b] = dots[a * kKeys + b];
  }
}

// Turns `count` scores into exp(score - max), returning max and sum. Lanes past the end become 0.
template <class S>
void exp_scores(float* scores, std::int64_t count, float* max, float* sum) {
  using F = typename S::F;
  const float lowest = -__builtin_huge_valf();
  for (std::int64_t j = count; j % kLanes != 0; ++j) scores[j] = lowest;
  F most = S::set(lowest);
  for (std::int64_t j = 0; j < count; j += kLanes) most = S::max(S::load(scores + j), most);
  *max = S::largest(most);
  const F shift = S::set(*max);
  F total = S::set(0.0f);
  for (std::int64_t j = 0; j < count; j += kLanes) {
    const F p = exp<S>(S::sub(S::load(scores + j), shift));
    S::store(scores + j, p);
    total = S::add(total, p);
  }
  *sum = S::sum(total);
}

// block_out[i] += sum of p_ij * v_j over keys [begin, end) in order, for kQueries queries from
// `first`.
template <class S, class E, int kQueries>
BITNET_NEST void add_values(const QueryTile& tile, int first, const E* values, std::int64_t begin,
                            std::int64_t end) {
  using F = typename S::F;
  constexpr int kVecs = kQueries == 1 ? 8 : kQueries == 2 ? 4 : 2;
  const auto columns = [&](auto vecs, auto load, auto store) {
    constexpr int kCount = decltype(vecs)::kValue;
    F sum[kQueries][kCount];
    const auto each_sum = [](auto fn) {
      repeat<kQueries>([&](auto a) { repeat<kCount>([&](auto c) { fn(a, c); }); });
    };
    each_sum([&](auto a, auto c) { sum[a][c] = load(tile.block_out[first + a] + c * kLanes); });
    for (std::int64_t j = begin; j < end; ++j) {
      F p[kQueries];
      repeat<kQueries>([&](auto a) { p[a] = S::set(tile.scores[first + a][j]); });
      repeat<kCount>([&](auto c) {
        const F v = shared<S, kQueries>(load(values + j * tile.head_dim + c * kLanes));
        repeat<kQueries>([&](auto a) { sum[a][c] = S::fma(p[a], v, sum[a][c]); });
      });
    }
    each_sum([&](auto a, auto c) { store(tile.block_out[first + a] + c * kLanes, sum[a][c]); });
  };
  std::int64_t d = 0;
  for (; d + kVecs * kLanes <= tile.head_dim; d += kVecs * kLanes)
    columns(
        Count<kVecs>{}, [d](const auto* p) { return S::load(p + d); },
        [d](float* p, F value) { S::store(p + d, value); });
  for_lanes<S>(tile.head_dim - d, [&](auto load, auto store) {
    columns(
        Count<1>{}, [=](const auto* p) { return load(p + d); },
        [=](float* p, F value) { store(p + d, value); });
  });
}

// One block of keys, the first of which stands at `position`.
template <class S, class E, int kQueries>
void attend_block(QueryTile& tile, const E* keys, const E* values, std::int64_t position,
                  float scale) {
  using F = typename S::F;
  std::int64_t count[kQueries], fewest = kKeyBlock, most = 0;
  for (int a = 0; a < kQueries; ++a) {
    count[a] = larger(0, smaller(kKeyBlock, tile.n_keys[a] - position));
    fewest = smaller(fewest, count[a]);
    most = larger(most, count[a]);
  }
  score_keys<S, E, kQueries>(tile, keys, most, scale);
  float max[kQueries], sum[kQueries];
  for (int a = 0; a < kQueries; ++a) {
    if (count[a] > 0) exp_scores<S>(tile.scores[a], count[a], &max[a], &sum[a]);
    for (std::int64_t d = 0; d < tile.head_dim; ++d) tile.block_out[a][d] = 0.0f;
  }
  add_values<S, E, kQueries>(tile, 0, values, 0, fewest);
  for (int a = 0; a < kQueries; ++a) {
    if (count[a] == 0) continue;
    // A key that only some queries see must not touch the others: 0 * v is not 0 for an infinite v.
    if (count[a] > fewest) add_values<S, E, 1>(tile, a, values, fewest, count[a]);
    const float new_max = max[a] > tile.max[a] ? max[a] : tile.max[a];
    float factors[kLanes] = {tile.max[a] - new_max, max[a] - new_max};
    S::store(factors, exp<S>(S::load(factors)));
    const F old_factor = S::set(factors[0]), new_factor = S::set(factors[1]);
    for_lanes<S>(tile.head_dim, [&](auto load, auto store) {
      const F kept = S::mul(load(tile.out[a]), old_factor);
      store(tile.out[a], S::fma(load(tile.block_out[a]), new_factor, kept));
    });
    tile.sum[a] = tile.sum[a] * factors[0] + sum[a] * factors[1];
    tile.max[a] = new_max;
  }
}

template <class S, class E, int kQueries>
void attend_tile(const AttendArgs& args, std::int64_t first) {
  QueryTile tile{};
  tile.head_dim = args.head_dim;
  std::int64_t most = 0;
  float* scratch = args.scratch;
  for (int a = 0; a < kQueries; ++a) {
    tile.q[a] = args.q[first + a];
    tile.out[a] = args.out[first + a];
    tile.n_keys[a] = args.n_keys[first + a];
    tile.max[a] = -__builtin_huge_valf();
    tile.scores[a] = scratch;
    tile.block_out[a] = scratch + kKeyBlock + kLanes;
    scratch += kKeyBlock + kLanes + args.head_dim;
    most = larger(most, tile.n_keys[a]);
    for (std::int64_t d = 0; d < args.head_dim; ++d) tile.out[a][d] = 0.0f;
  }
  for (std::int64_t position = 0; position < most; position += kKeyBlock) {
    const std::int64_t at = position * args.head_dim;
    attend_block<S, E, kQueries>(tile, static_cast<const E*>(args.k) + at,
                                 static_cast<const E*>(args.v) + at, position, args.scale);
  }
  for (int a = 0; a < kQueries; ++a) {
    if (tile.n_keys[a] <= 0) continue;
    const auto sum = S::set(tile.sum[a]);
    for_lanes<S>(args.head_dim, [&](auto load, auto store) {
      store(tile.out[a], S::div(load(tile.out[a]), sum));
    });
  }
}

template <class S, class E>
void attend_all(const AttendArgs& args) {
  std::int64_t i = 0;
  for (; i + kQueryTile <= args.queries; i += kQueryTile) attend_tile<S, E, kQueryTile>(args, i);
  switch (args.queries - i) {
    case 3:
      return attend_tile<S, E, 3>(args, i);
    case 2:
      return attend_tile<S, E, 2>(args, i);
    case 1:
      return attend_tile<S, E, 1>(args, i);
  }
}

template <class S>
void attend(const AttendArgs& args) {
  if (args.kv_type == KvType::kF16)
    attend_all<S, F16>(args);
  else
    attend_all<S, float>(args);
}

}  // namespace
}  // namespace bitnet
