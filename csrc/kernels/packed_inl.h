// Owns: the products with int8 activations (W1.58A8 of arXiv 2402.17764, and W8A8) as loop nests:
// GEMV straight from the stored tiles, GEMM from a block of tiles decoded into L1 once.
// Does not own: the stored layouts (packing/), instructions (the structs `W` of isa_*.cpp), where
// sums go (packed_sums_inl.h).
//
// A panel is a stream of tiles along K. A tile holds kVecs vectors of 8 rows x 4 columns: ternary2
// has four (its 2-bit fields), int6 four in three runs of bytes, int8 one. Per ISA and format, `W`
// says how to multiply them:
//   S                          the ISA's primitives for 8 lanes (lanes_inl.h)
//   Store                      how the tiles of a panel lie in memory: PlainPanels, or trits5_inl.h
//   Tiles, Vec, Acts, Sum      register types
//   kVecs, kTileBytes          vectors of 8 rows in a tile, and its bytes
//   kGroup                     columns that share a group scale; if they are not kGroupSize,
//                              offset_vec() gives a Vec whose codes are all kOffset
//   kScalesByPanel             how group scales lie (packing/formats.h)
//   kTiles                     tiles that one step takes (a wide register holds two)
//   kVecBytes                  of a Vec: 32 * kTiles
//   kMaxSteps                  steps that fit a Sum before it must be flushed
//   kOffset                    what codes are above weights: 1 for c = w + 1
//   kTileVecs, kTileTokens     the GEMM's register tile
//   kActTokens                 tokens whose activations meet a Vec at once in the GEMM: 1, or 2 if
//                              the ISA multiplies small matrices
//   load(const uint8*) -> Tiles;  vec(Tiles, v) -> Vec;  load_vec, store_vec
//   acts(const int8*) -> Acts  4 * kTiles activations, for every row; if kActTokens is 2,
//                              acts(p, stride), those of a second token from p + stride too
//   zero() -> Sum;  add_products(Sum, Vec, Acts) -> Sum;  flush(Sum) -> S::I, the sums of 8 rows;
//                              if kActTokens is 2, flush(Sum, token) those of one token
//   gemv_vec(Tiles, v), gemv_flush(Sum, v), kGemvSteps
//                              the same for codes that meet few activations: they may stay where
//                              they are in their byte, times a power of 4, which the flush takes
//                              out again
//   kGemvChains                sums of one token and row side by side, so that a step need not wait
//                              for the one before
// A kernel may take one `W` for its GEMV and another for its GEMM, if they share S, kVecs, kOffset.
#pragma once

#include "kernels/kernel_table.h"
#include "kernels/lanes_inl.h"
#include "kernels/packed_sums_inl.h"

namespace bitnet {
namespace {

constexpr std::int64_t kTileBytes = 32;  // of every format but int6
constexpr std::int64_t kTileColumns = 4, kLineBytes = 64;
constexpr std::int64_t kAhead = 4096;  // bytes of weights to prefetch ahead

// Panels whose tiles are stored as the nests read them.
template <std::int64_t kBytes>
struct PlainTiles {
  struct Scratch {};
  static constexpr std::int64_t kGemvTokens = 2;           // up to so many go by GEMV, in pairs
  static constexpr bool kOwnGemv = false;                  // W::gemv_sums reads it without `tiles`
  static constexpr std::int64_t kPartTiles = kBlockTiles;  // of a GEMM block
  static constexpr std::int64_t kGemvPart = std::int64_t{1} << 40;  // tiles for one call of `tiles`
  static std::int64_t panel_bytes(std::int64_t tiles) { return tiles * kBytes; }
  // The tiles [first, first + count) of a panel of `tiles`.
  template <class S>
  static const std::uint8_t* tiles(const std::uint8_t* panel, std::int64_t /*tiles*/,
                                   std::int64_t first, std::int64_t /*count*/, Scratch&) {
    return panel + first * kBytes;
  }
  template <class S>
  static void prefetch(const std::uint8_t* tile) {
    S::prefetch(tile + kAhead);
  }
};
using PlainPanels = PlainTiles<kTileBytes>;

// ---- GEMV: every tile is decoded in registers, for one or two tokens.

// Adds the sums over `count` tiles to `total`. x: the activations of the first. With one vector
// more than a tile has, it gets the sum of the activations times kOffset, in every lane.
template <class W, int kTokens, int kSums>
void gemv_sums(const std::uint8_t* tiles, std::int64_t count, const std::int8_t* x,
               std::int64_t x_stride, typename W::S::I (&total)[kTokens][kSums]) {
  using S = typename W::S;
  const auto each_sum = [](auto fn) {
    repeat<kTokens>([&](auto t) { repeat<kSums>([&](auto v) { fn(t, v); }); });
  };
  constexpr int kChains = W::kGemvChains / kTokens > 1 ? W::kGemvChains / kTokens : 1;
  constexpr std::int64_t kMaxTiles = W::kGemvSteps * W::kTiles;
  for (std::int64_t tile = 0; tile < count;) {
    const std::int64_t stop = smaller(tile + kMaxTiles, count);
    typename W::Sum sum[kChains][kTokens][kSums];
    repeat<kChains>([&](auto c) { each_sum([&](auto t, auto v) { sum[c][t][v] = W::zero(); }); });
    const auto add_tiles = [&](auto c, std::int64_t at) {
      const auto codes = W::load(tiles + at * W::kTileBytes);
      typename W::Acts acts[kTokens];
      repeat<kTokens>([&](auto t) { acts[t] = W::acts(x + t * x_stride + at * kTileColumns); });
      const auto add_vec = [&](auto v, const typename W::Vec& vec) {
        repeat<kTokens>(
            [&](auto t) { sum[c][t][v] = W::add_products(sum[c][t][v], vec, acts[t]); });
      };
      repeat<W::kVecs>([&](auto v) { add_vec(v, W::gemv_vec(codes, v)); });
      if constexpr (kSums > W::kVecs) add_vec(Index<W::kVecs>{}, W::offset_vec());
    };
    const auto add_steps = [&](auto steps) {
      for (std::int64_t at = 0; at < steps * W::kTiles * W::kTileBytes; at += kLineBytes)
        W::Store::template prefetch<S>(tiles + tile * W::kTileBytes + at);
      repeat<steps>(
          [&](auto step) { add_tiles(Index<step % kChains>{}, tile + step * W::kTiles); });
      tile += steps * W::kTiles;
    };
    // A small group at once; else as many steps as there are chains, but whole cache lines; then
    // what is left of them.
    constexpr int kSteps = kChains * W::kTiles < 2 ? 2 : kChains;
    constexpr int kGroupSteps = W::kGroup / kTileColumns / W::kTiles;
    if (kGroupSteps <= 8 && stop - tile == kGroupSteps * W::kTiles) {
      add_steps(Index<kGroupSteps <= 8 ? kGroupSteps : 1>{});
    } else {
      while (tile + kSteps * W::kTiles <= stop) add_steps(Index<kSteps>{});
      for (; tile < stop; tile += W::kTiles) add_tiles(Index<0>{}, tile);
    }
    repeat<kChains>([&](auto c) {
      each_sum([&](auto t, auto v) {
        total[t][v] = S::add(total[t][v], W::gemv_flush(sum[c][t][v], v));
      });
    });
  }
}

template <class W, int kTokens, class Sink>
BITNET_NEST void gemv_panel(const std::uint8_t* panel, std::int64_t count, const std::int8_t* x,
                            std::int64_t x_stride, const Block& block, Sink& sink) {
  using S = typename W::S;
  using Store = typename W::Store;
  [[maybe_unused]] typename Store::Scratch scratch;
  // Whether to add up the activations of a group, because nobody knows their sum.
  constexpr bool kOwnOffset = [] {
    if constexpr (Sink::kGroups) return !Sink::kKnowsActSums && W::kOffset != 0;
    return false;
  }();
  constexpr int kSums = W::kVecs + kOwnOffset;
  const auto each_vec = [](auto fn) {
    repeat<kTokens>([&](auto t) { repeat<W::kVecs>([&](auto v) { fn(t, v); }); });
  };
  const std::int64_t part = Sink::kGroups ? W::kGroup / kTileColumns : count;
  typename S::F scaled[kTokens][W::kVecs];
  each_vec([&](auto t, auto v) { scaled[t][v] = S::set(0.0f); });
  for (std::int64_t first = 0, group = 0; first < count; first += part, ++group) {
    const std::int64_t last = smaller(first + part, count);
    typename S::I total[kTokens][kSums];
    repeat<kTokens>([&](auto t) { repeat<kSums>([&](auto v) { total[t][v] = S::set_int(0); }); });
    for (std::int64_t tile = first, stop; tile < last; tile = stop) {
      stop = smaller(tile + Store::kGemvPart, last);
      if constexpr (Store::kOwnGemv)
        W::template gemv_sums<kTokens>(panel, count, tile, stop, x, x_stride, total);
      else
        gemv_sums<W, kTokens>(Store::template tiles<S>(panel, count, tile, stop - tile, scratch),
                              stop - tile, x + tile * kTileColumns, x_stride, total);
    }
    if constexpr (Sink::kGroups) {
      sink.prefetch_next_panel(block.row, group);
      repeat<W::kVecs>([&](auto v) {
        const auto row_scale = sink.scale(block.row + v * kVecRows, group);
        repeat<kTokens>([&](auto t) {
          typename S::I offset;
          if constexpr (kOwnOffset)
            offset = total[t][W::kVecs];
          else
            offset = S::set_int(W::kOffset * sink.act_sum(block.token + t, group));
          scaled[t][v] = Sink::add_group(scaled[t][v], total[t][v], offset, row_scale);
        });
      });
    } else {
      TokenSums* out = sink.begin(block);
      each_vec([&](auto t, auto v) { S::store(out[t] + v * kVecRows, total[t][v]); });
      sink.end();
    }
  }
  if constexpr (Sink::kGroups)
    each_vec([&](auto t, auto v) {
      sink.store(block.token + t, block.row + v * kVecRows, scaled[t][v]);
    });
}

// ---- GEMM.

// One token's step in a register tile. An ISA may specialize it where compilers need help.
template <class W>
void add_token(typename W::Sum (&sum)[W::kTileVecs], const typename W::Vec (&vec)[W::kTileVecs],
               const std::int8_t* x) {
  const auto acts = W::acts(x);
  repeat<W::kTileVecs>([&](auto v) { sum[v] = W::add_products(sum[v], vec[v], acts); });
}

// The same for two tokens. A last one without a second is its own (stride 0).
template <class W>
void add_two_tokens(typename W::Sum (&sum)[W::kTileVecs],
                    const typename W::Vec (&vec)[W::kTileVecs], const std::int8_t* x,
                    std::int64_t stride) {
  const auto acts = W::acts(x, stride);
  repeat<W::kTileVecs>([&](auto v) { sum[v] = W::add_products(sum[v], vec[v], acts); });
}

// kTileVecs vectors of rows x kTokens tokens over `steps` steps, all sums in registers; adds to
// `out`, or overwrites it if `fresh`.
template <class W, int kTokens>
BITNET_NEST void register_tile(const std::uint8_t* vecs, std::int64_t steps, const std::int8_t* x,
                               std::int64_t x_stride, bool fresh, std::int32_t* out) {
  using S = typename W::S;
  constexpr int kActTokens = W::kActTokens, kSums = (kTokens + kActTokens - 1) / kActTokens;
  typename W::Sum sum[kSums][W::kTileVecs];
  repeat<kSums>([&](auto t) { repeat<W::kTileVecs>([&](auto v) { sum[t][v] = W::zero(); }); });
  for (std::int64_t s = 0; s < steps; ++s) {
    typename W::Vec vec[W::kTileVecs];
    repeat<W::kTileVecs>([&](auto v) { vec[v] = W::load_vec(vecs + v * W::kVecBytes); });
    repeat<kSums>([&](auto t) {
      if constexpr (kActTokens == 1)
        add_token<W>(sum[t], vec, x + t * x_stride);
      else
        add_two_tokens<W>(sum[t], vec, x + 2 * t * x_stride, 2 * t + 1 < kTokens ? x_stride : 0);
    });
    vecs += W::kTileVecs * W::kVecBytes;
    x += W::kTiles * kTileColumns;
  }
  repeat<kTokens>([&](auto t) {
    repeat<W::kTileVecs>([&](auto v) {
      std::int32_t* to = out + t * kBlockRows + v * kVecRows;
      const auto part = [&] {
        if constexpr (kActTokens == 1)
          return W::flush(sum[t][v]);
        else
          return W::flush(sum[t / kActTokens][v], Index<t % kActTokens>{});
      }();
      S::store(to, fresh ? part : S::add(S::load(to), part));
    });
  });
}

// The register tile for what is left of `tokens`, up to kTokens; returns how many it took.
template <class W, int kTokens>
std::int64_t multiply_tokens(const std::uint8_t* vecs, std::int64_t steps, const std::int8_t* x,
                             std::int64_t x_stride, std::int64_t tokens, bool fresh,
                             std::int32_t* out) {
  if constexpr (kTokens > 1)
    if (tokens < kTokens)
      return multiply_tokens<W, kTokens - 1>(vecs, steps, x, x_stride, tokens, fresh, out);
  for (std::int64_t v = 0; v < kBlockVecs; v += W::kTileVecs)
    register_tile<W, kTokens>(vecs + v * steps * W::kVecBytes, steps, x, x_stride, fresh,
                              out + v * kVecRows);
  return kTokens;
}

// Decodes `steps` steps of each panel, from tile `tile` of `tiles` on, into
// out[kBlockVecs / kTileVecs][step][kTileVecs]. Past panel `last`, that one stands in.
template <class W>
void decode(const std::uint8_t* weight, std::int64_t tiles, std::int64_t panel, std::int64_t last,
            std::int64_t tile, std::int64_t steps, std::uint8_t* out) {
  using Store = typename W::Store;
  [[maybe_unused]] typename Store::Scratch scratch;
  for (std::int64_t first = 0; first < kBlockVecs; first += W::kVecs, ++panel) {
    const std::uint8_t* from = Store::template tiles<typename W::S>(
        weight + smaller(panel, last) * Store::panel_bytes(tiles), tiles, tile, steps * W::kTiles,
        scratch);
    for (std::int64_t s = 0; s < steps; ++s, from += W::kTiles * W::kTileBytes) {
      for (std::int64_t at = 0; at < W::kTiles * W::kTileBytes; at += kLineBytes)
        Store::template prefetch<typename W::S>(from + at);
      const auto codes = W::load(from);
      repeat<W::kVecs>([&](auto i) {
        const std::int64_t v = first + i;
        const std::int64_t at = (v / W::kTileVecs * steps + s) * W::kTileVecs + v % W::kTileVecs;
        W::store_vec(out + at * W::kVecBytes, W::vec(codes, i));
      });
    }
  }
}

template <class W, class Sink>
void gemm_block(const std::uint8_t* weight, std::int64_t tiles, const Int8Acts& acts,
                const Block& block, Sink& sink) {
  alignas(64) std::uint8_t decoded[kBlockTiles * kTileColumns * kBlockRows];
  constexpr std::int64_t kPart = Sink::kGroups
                                     ? W::kGroup / kTileColumns
                                     : smaller(W::Store::kPartTiles, W::kMaxSteps * W::kTiles);
  static_assert(kPart <= W::kMaxSteps * W::kTiles, "a block must fit the sums of a register tile");
  static_assert(kPart <= kBlockTiles && kPart % W::kTiles == 0);
  const std::int64_t panel = block.row / (W::kVecs * kVecRows);
  const std::int64_t last = panel + block.vecs / W::kVecs - 1;
  TokenSums* out = sink.begin(block);
  for (std::int64_t first = 0, group = 0; first < tiles; first += kPart, ++group) {
    const std::int64_t steps = smaller(kPart, tiles - first) / W::kTiles;
    decode<W>(weight, tiles, panel, last, first, steps, decoded);
    const std::int8_t* x = acts.q + block.token * acts.stride + first * kTileColumns;
    for (std::int64_t t = 0; t < block.tokens;)
      t +=
          multiply_tokens<W, W::kTileTokens>(decoded, steps, x + t * acts.stride, acts.stride,
                                             block.tokens - t, Sink::kGroups || first == 0, out[t]);
    sink.end_part(group);
  }
  sink.end();
}

// ---- The kernels. `W` computes up to Store::kGemvTokens tokens, `Gemm` more.

template <class W, class Gemm, class Sink>
void multiply_panels(const std::uint8_t* weight, std::int64_t k, const Int8Acts& acts,
                     std::int64_t tokens, std::int64_t panel_begin, std::int64_t panel_end,
                     Sink& sink) {
  constexpr std::int64_t kRows = W::kVecs * kVecRows, kPanels = kBlockVecs / W::kVecs;
  const std::int64_t tiles = (k + 7) / 8 * 8 / kTileColumns;
  if (tokens <= W::Store::kGemvTokens) {
    for (std::int64_t panel = panel_begin; panel < panel_end; ++panel) {
      const auto gemv = [&](auto count, std::int64_t token) {
        gemv_panel<W, count>(weight + panel * W::Store::panel_bytes(tiles), tiles,
                             acts.q + token * acts.stride, acts.stride,
                             {panel * kRows, W::kVecs, token, count}, sink);
      };
      std::int64_t token = 0;
      for (; token + 2 <= tokens; token += 2) gemv(Index<2>{}, token);
      if (token < tokens) gemv(Index<1>{}, token);
    }
    return;
  }
  for (std::int64_t panel = panel_begin; panel < panel_end; panel += kPanels)
    for (std::int64_t token = 0; token < tokens; token += kBlockTokens) {
      const Block block{panel * kRows, smaller(kPanels, panel_end - panel) * W::kVecs, token,
                        smaller(kBlockTokens, tokens - token)};
      gemm_block<Gemm>(weight, tiles, acts, block, sink);
    }
}

template <class W, class Gemm = W>
void packed_dot(const std::uint8_t* weight, std::int64_t n, std::int64_t k, const Int8Acts& acts,
                std::int64_t tokens, std::int64_t panel_begin, std::int64_t panel_end,
                std::int32_t* out, std::int64_t out_stride) {
  const std::int64_t row_end = smaller(n, panel_end * W::kVecs * kVecRows);
  const auto store = [=](std::int64_t token, std::int64_t row, typename W::S::I sums) {
    store_rows<typename W::S>(out + token * out_stride + row, sums, row_end - row);
  };
  RowSums<W, decltype(store)> sink(acts, k, store);
  multiply_panels<W, Gemm>(weight, k, acts, tokens, panel_begin, panel_end, sink);
}

template <class W, class Gemm = W>
void packed_linear(const LinearArgs& args, std::int64_t panel_begin, std::int64_t panel_end) {
  using S = typename W::S;
  const std::int64_t row_end = smaller(args.n, panel_end * W::kVecs * kVecRows);
  const auto multiply = [&](auto&& sink) {
    multiply_panels<W, Gemm>(args.weight, args.k, args.acts, args.tokens, panel_begin, panel_end,
                             sink);
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
