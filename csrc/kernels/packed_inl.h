// Owns: the products with int8 activations (W1.58A8 of arXiv 2402.17764, and W8A8) as loop nests:
// GEMV straight from the stored tiles, GEMM from a block of tiles decoded into L1 once.
// Does not own: the stored layouts (packing/), instructions (the structs `W` of isa_*.cpp).
//
// A panel is a stream of tiles along K. A tile holds kVecs vectors of 8 rows x 4 columns: ternary2
// has four (its 2-bit fields), int8 one. Per ISA and format, `W` says how to multiply them:
//   S                          the ISA's primitives for 8 lanes (lanes_inl.h)
//   Tiles, Vec, Acts, Sum      register types
//   kVecs                      vectors of 8 rows in a tile
//   kTiles                     tiles that one step takes (a wide register holds two)
//   kMaxSteps                  steps that fit a Sum before it must be flushed
//   kOffset                    what codes are above weights: 1 for c = w + 1, else 0
//   kTileVecs x kTileTokens    the GEMM's register tile
//   load(const uint8*) -> Tiles;  vec(Tiles, v) -> Vec;  load_vec, store_vec
//   acts(const int8*) -> Acts  4 * kTiles activations, for every row
//   zero() -> Sum;  add_products(Sum, Vec, Acts) -> Sum;  flush(Sum) -> S::I, the sums of 8 rows
#pragma once

#include "kernels/kernel_table.h"
#include "kernels/lanes_inl.h"

namespace bitnet {
namespace {

constexpr std::int64_t kTileBytes = 32, kTileColumns = 4;
constexpr std::int64_t kVecRows = 8;
constexpr std::int64_t kBlockVecs = 4;     // rows of a GEMM block: 4 vectors of 8
constexpr std::int64_t kBlockTiles = 64;   // its columns: 256, so that it takes 8 KiB of L1
constexpr std::int64_t kBlockTokens = 48;  // sums of 32 rows x 48 tokens: 6 KiB of L1
constexpr std::int64_t kGroupTiles = kGroupSize / kTileColumns;
constexpr std::int64_t kAhead = 4096;  // bytes of weights to prefetch ahead

// ---- Where sums go. A sink takes int32 sums of 8 rows, part by part in the order of K: whole
// groups where kGroups, any parts where not.

// Rows from `row` in `vecs` vectors of 8, `tokens` tokens from `token`.
struct Block {
  std::int64_t row, vecs, token, tokens;
};

// To 8 rows of one token, or to those that exist.
template <class S, class T, class Vec>
void store_rows(T* out, Vec value, std::int64_t rows_left) {
  if (rows_left >= kVecRows)
    S::store(out, value);
  else if (rows_left > 0)
    store_some<S>(out, value, rows_left);
}

// Sums over all of K. `Out` gets them, as products with weights: out(token, row, sums of 8 rows).
template <class W, class Out>
class RowSums {
  using S = typename W::S;

 public:
  static constexpr bool kGroups = false;
  RowSums(const Int8Acts& acts, std::int64_t k, const Out& out)
      : acts_(acts), groups_((k + kGroupSize - 1) / kGroupSize), out_(out) {}

  void begin(const Block& block) {
    block_ = block;
    for (std::int64_t t = 0; t < block.tokens; ++t)
      for (std::int64_t v = 0; v < block.vecs; ++v) S::store(at(t, v), S::set_int(0));
  }
  void add(std::int64_t t, std::int64_t v, std::int64_t /*group*/, typename S::I sums) {
    S::store(at(t, v), S::add(S::load(at(t, v)), sums));
  }
  void end() {
    for (std::int64_t t = 0; t < block_.tokens; ++t) {
      const std::int64_t token = block_.token + t;
      std::int32_t act_sum = 0;
      for (std::int64_t g = 0; g < groups_; ++g)
        act_sum += acts_.group_sum[token * acts_.group_stride + g];
      const auto offset = S::set_int(W::kOffset * act_sum);
      for (std::int64_t v = 0; v < block_.vecs; ++v)
        out_(token, block_.row + v * kVecRows, S::sub(S::load(at(t, v)), offset));
    }
  }

 private:
  std::int32_t* at(std::int64_t t, std::int64_t v) { return sums_[t] + v * kVecRows; }

  const Int8Acts& acts_;
  const std::int64_t groups_;
  const Out& out_;
  Block block_{};
  alignas(64) std::int32_t sums_[kBlockTokens][kBlockVecs * kVecRows];
};

// A float sum over the groups, each weighted by its scale (E: float or F16).
template <class W, class E>
class GroupSums {
  using S = typename W::S;

 public:
  static constexpr bool kGroups = true;
  GroupSums(const LinearArgs& args, std::int64_t row_end)
      : args_(args), row_end_(row_end), scale_stride_((args.n + kRows - 1) / kRows * kRows) {}

  void begin(const Block& block) {
    block_ = block;
    for (std::int64_t t = 0; t < block.tokens; ++t)
      for (std::int64_t v = 0; v < block.vecs; ++v) S::store(at(t, v), S::set(0.0f));
  }
  void add(std::int64_t t, std::int64_t v, std::int64_t group, typename S::I sums) {
    const std::int32_t act_sum =
        args_.acts.group_sum[(block_.token + t) * args_.acts.group_stride + group];
    const E* scale = static_cast<const E*>(args_.scale) + group * scale_stride_ + block_.row;
    const auto exact = S::to_float(S::sub(sums, S::set_int(W::kOffset * act_sum)));
    const auto part = S::mul(exact, S::load(scale + v * kVecRows));
    S::store(at(t, v), S::add(S::load(at(t, v)), part));
  }
  void end() {
    for (std::int64_t t = 0; t < block_.tokens; ++t) {
      const std::int64_t token = block_.token + t;
      const auto act_scale = S::set(args_.acts.scale[token]);
      float* out = args_.out + token * args_.out_stride;
      for (std::int64_t v = 0; v < block_.vecs; ++v) {
        const std::int64_t row = block_.row + v * kVecRows;
        store_rows<S>(out + row, S::mul(act_scale, S::load(at(t, v))), row_end_ - row);
      }
    }
  }

 private:
  static constexpr std::int64_t kRows = W::kVecs * kVecRows;
  float* at(std::int64_t t, std::int64_t v) { return sums_[t] + v * kVecRows; }

  const LinearArgs& args_;
  const std::int64_t row_end_, scale_stride_;
  Block block_{};
  alignas(64) float sums_[kBlockTokens][kBlockVecs * kVecRows];
};

// ---- GEMV: every tile is decoded in registers, for one or two tokens.

template <class W, int kTokens, class Sink>
void gemv_panel(const std::uint8_t* tiles, std::int64_t count, const std::int8_t* x,
                std::int64_t x_stride, Sink& sink) {
  using S = typename W::S;
  const std::int64_t segment = Sink::kGroups ? kGroupTiles : count;
  for (std::int64_t first = 0, group = 0; first < count; first += segment, ++group) {
    const std::int64_t last = smaller(first + segment, count);
    typename S::I total[kTokens][W::kVecs];
    for (auto& row : total)
      for (auto& sums : row) sums = S::set_int(0);
    for (std::int64_t tile = first; tile < last;) {
      const std::int64_t stop = smaller(tile + W::kMaxSteps * W::kTiles, last);
      typename W::Sum sum[kTokens][W::kVecs];
      for (auto& row : sum)
        for (auto& sums : row) sums = W::zero();
      for (; tile < stop; tile += W::kTiles) {
        S::prefetch(tiles + tile * kTileBytes + kAhead);
        const auto codes = W::load(tiles + tile * kTileBytes);
        typename W::Acts acts[kTokens];
        for (int t = 0; t < kTokens; ++t) acts[t] = W::acts(x + t * x_stride + tile * kTileColumns);
        for (int v = 0; v < W::kVecs; ++v) {
          const auto vec = W::vec(codes, v);
          for (int t = 0; t < kTokens; ++t) sum[t][v] = W::add_products(sum[t][v], vec, acts[t]);
        }
      }
      for (int t = 0; t < kTokens; ++t)
        for (int v = 0; v < W::kVecs; ++v) total[t][v] = S::add(total[t][v], W::flush(sum[t][v]));
    }
    for (int t = 0; t < kTokens; ++t)
      for (int v = 0; v < W::kVecs; ++v) sink.add(t, v, group, total[t][v]);
  }
}

// ---- GEMM.

// kTileVecs vectors of rows x kTokens tokens over `steps` steps, all sums in registers. Not
// inlined: alone, compilers keep them there.
template <class W, int kTokens>
BITNET_NOINLINE void register_tile(const std::uint8_t* vecs, std::int64_t steps,
                                   const std::int8_t* x, std::int64_t x_stride,
                                   std::int32_t (*out)[W::kTileVecs][kVecRows]) {
  typename W::Sum sum[kTokens][W::kTileVecs];
  for (auto& row : sum)
    for (auto& sums : row) sums = W::zero();
  for (std::int64_t s = 0; s < steps; ++s) {
    typename W::Vec vec[W::kTileVecs];
    for (int v = 0; v < W::kTileVecs; ++v) vec[v] = W::load_vec(vecs + v * W::kVecBytes);
    for (int t = 0; t < kTokens; ++t) {
      const auto acts = W::acts(x + t * x_stride);
      for (int v = 0; v < W::kTileVecs; ++v) sum[t][v] = W::add_products(sum[t][v], vec[v], acts);
    }
    vecs += W::kTileVecs * W::kVecBytes;
    x += W::kTiles * kTileColumns;
  }
  for (int t = 0; t < kTokens; ++t)
    for (int v = 0; v < W::kTileVecs; ++v) W::S::store(out[t][v], W::flush(sum[t][v]));
}

// Up to kTokens tokens against one row of vectors, from vector `v` of the block on.
template <class W, int kTokens, class Sink>
void multiply_tokens(const std::uint8_t* vecs, std::int64_t steps, const std::int8_t* x,
                     std::int64_t x_stride, const Block& block, std::int64_t t, std::int64_t v,
                     std::int64_t group, Sink& sink) {
  if constexpr (kTokens > 1)
    if (block.tokens - t < kTokens)
      return multiply_tokens<W, kTokens - 1>(vecs, steps, x, x_stride, block, t, v, group, sink);
  alignas(64) std::int32_t sums[kTokens][W::kTileVecs][kVecRows];
  register_tile<W, kTokens>(vecs, steps, x, x_stride, sums);
  for (int i = 0; i < kTokens; ++i)
    for (int j = 0; j < W::kTileVecs; ++j)
      if (v + j < block.vecs) sink.add(t + i, v + j, group, W::S::load(sums[i][j]));
}

// Decodes `steps` steps of panels [panel, last] into out[vectors / kTileVecs][step][kTileVecs].
// Where the panels do not fill a register tile, the last one stands in.
template <class W>
void decode(const std::uint8_t* weight, std::int64_t panel_bytes, std::int64_t panel,
            std::int64_t last, std::int64_t vecs, std::int64_t offset, std::int64_t steps,
            std::uint8_t* out) {
  for (std::int64_t first = 0; first < vecs; first += W::kVecs, ++panel) {
    const std::uint8_t* tiles = weight + smaller(panel, last) * panel_bytes + offset;
    for (std::int64_t s = 0; s < steps; ++s, tiles += W::kVecBytes) {
      const auto codes = W::load(tiles);
      for (int i = 0; i < W::kVecs; ++i) {
        const std::int64_t v = first + i;
        const std::int64_t at = (v / W::kTileVecs * steps + s) * W::kTileVecs + v % W::kTileVecs;
        W::store_vec(out + at * W::kVecBytes, W::vec(codes, i));
      }
    }
  }
}

template <class W, class Sink>
void gemm_block(const std::uint8_t* weight, std::int64_t k_pad, const Int8Acts& acts,
                const Block& block, Sink& sink) {
  alignas(64) std::uint8_t decoded[kBlockVecs * kBlockTiles * kTileBytes];
  constexpr std::int64_t kPart = Sink::kGroups ? kGroupTiles : kBlockTiles;
  static_assert(kPart <= W::kMaxSteps * W::kTiles, "a block must fit the sums of a register tile");
  const std::int64_t tiles = k_pad / kTileColumns;
  const std::int64_t panel = block.row / (W::kVecs * kVecRows);
  const std::int64_t last = panel + block.vecs / W::kVecs - 1;
  const std::int64_t vecs = (block.vecs + W::kTileVecs - 1) / W::kTileVecs * W::kTileVecs;
  for (std::int64_t first = 0, group = 0; first < tiles; first += kPart, ++group) {
    const std::int64_t steps = smaller(kPart, tiles - first) / W::kTiles;
    decode<W>(weight, tiles * kTileBytes, panel, last, vecs, first * kTileBytes, steps, decoded);
    for (std::int64_t t = 0; t < block.tokens; t += W::kTileTokens) {
      const std::int8_t* x = acts.q + (block.token + t) * acts.stride + first * kTileColumns;
      for (std::int64_t v = 0; v < vecs; v += W::kTileVecs)
        multiply_tokens<W, W::kTileTokens>(decoded + v * steps * W::kVecBytes, steps, x,
                                           acts.stride, block, t, v, group, sink);
    }
  }
}

// ---- The kernels.

template <class W, class Sink>
void multiply_panels(const std::uint8_t* weight, std::int64_t k, const Int8Acts& acts,
                     std::int64_t tokens, std::int64_t panel_begin, std::int64_t panel_end,
                     Sink& sink) {
  constexpr std::int64_t kRows = W::kVecs * kVecRows, kPanels = kBlockVecs / W::kVecs;
  const std::int64_t k_pad = (k + 7) / 8 * 8, tiles = k_pad / kTileColumns;
  if (tokens <= 2) {
    for (std::int64_t panel = panel_begin; panel < panel_end; ++panel) {
      const std::uint8_t* from = weight + panel * tiles * kTileBytes;
      sink.begin({panel * kRows, W::kVecs, 0, tokens});
      if (tokens == 1)
        gemv_panel<W, 1>(from, tiles, acts.q, acts.stride, sink);
      else
        gemv_panel<W, 2>(from, tiles, acts.q, acts.stride, sink);
      sink.end();
    }
    return;
  }
  for (std::int64_t panel = panel_begin; panel < panel_end; panel += kPanels)
    for (std::int64_t token = 0; token < tokens; token += kBlockTokens) {
      const Block block{panel * kRows, smaller(kPanels, panel_end - panel) * W::kVecs, token,
                        smaller(kBlockTokens, tokens - token)};
      sink.begin(block);
      gemm_block<W>(weight, k_pad, acts, block, sink);
      sink.end();
    }
}

template <class W>
void packed_dot(const std::uint8_t* weight, std::int64_t n, std::int64_t k, const Int8Acts& acts,
                std::int64_t tokens, std::int64_t panel_begin, std::int64_t panel_end,
                std::int32_t* out, std::int64_t out_stride) {
  const std::int64_t row_end = smaller(n, panel_end * W::kVecs * kVecRows);
  const auto store = [=](std::int64_t token, std::int64_t row, typename W::S::I sums) {
    store_rows<typename W::S>(out + token * out_stride + row, sums, row_end - row);
  };
  RowSums<W, decltype(store)> sink(acts, k, store);
  multiply_panels<W>(weight, k, acts, tokens, panel_begin, panel_end, sink);
}

template <class W>
void packed_linear(const LinearArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  using S = typename W::S;
  const std::int64_t row_end = smaller(args.n, panel_end * W::kVecs * kVecRows);
  const auto multiply = [&](auto&& sink) {
    multiply_panels<W>(args.weight, args.k, args.acts, args.tokens, panel_begin, panel_end, sink);
  };
  if (args.scale_kind == ScaleKind::kGroup) {
    if (args.scale_is_f16) return multiply(GroupSums<W, F16>(args, row_end));
    return multiply(GroupSums<W, float>(args, row_end));
  }
  const float* scale = static_cast<const float*>(args.scale);
  const bool per_row = args.scale_kind == ScaleKind::kRow;
  const auto store = [&](std::int64_t token, std::int64_t row, typename S::I sums) {
    const auto weight_scale = per_row ? S::load(scale + row) : S::set(scale[0]);
    const auto factor = S::mul(S::set(args.acts.scale[token]), weight_scale);
    store_rows<S>(args.out + token * args.out_stride + row, S::mul(S::to_float(sums), factor),
                  row_end - row);
  };
  multiply(RowSums<W, decltype(store)>(args.acts, args.k, store));
}

}  // namespace
}  // namespace bitnet
