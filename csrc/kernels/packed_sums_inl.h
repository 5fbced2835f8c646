// Owns: where the int32 sums of the products go: offsets, scales, and the rows of the result. Does
// not own: the products (packed_inl.h).
#pragma once

#include "kernels/kernel_table.h"
#include "kernels/lanes_inl.h"

namespace bitnet {
namespace {

constexpr std::int64_t kVecRows = 8;
// A GEMM block: at most 32 rows x 512 columns decoded (16 KiB of L1; fewer columns if Store or the
// register tile's sums have it so) and their sums for 96 tokens (12 KiB).
constexpr std::int64_t kBlockVecs = 4, kBlockTiles = 128, kBlockTokens = 96;
constexpr std::int64_t kBlockRows = kBlockVecs * kVecRows;

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

// The nests add the int32 sums of a block, part by part along K, into rows of
// kBlockRows numbers per token; end_part closes a part, end the block. Where kGroups, a part is a
// group of columns; where not, parts just add up.

using TokenSums = std::int32_t[kBlockRows];

// Sums over all of K. `Out` gets them, as products with weights: out(token, row, sums of 8 rows).
template <class W, class Out>
class RowSums {
  using S = typename W::S;

 public:
  static constexpr bool kGroups = false;
  RowSums(const Int8Acts& acts, std::int64_t k, const Out& out)
      : acts_(acts), groups_((k + kGroupSize - 1) / kGroupSize), out_(out) {}

  TokenSums* begin(const Block& block) {
    block_ = block;
    return sums_;
  }
  void end_part(std::int64_t /*group*/) {}
  void end() {
    for (std::int64_t t = 0; t < block_.tokens; ++t) {
      const std::int64_t token = block_.token + t;
      std::int32_t act_sum = 0;
      for (std::int64_t g = 0; g < groups_; ++g)
        act_sum += acts_.group_sum[token * acts_.group_stride + g];
      const auto offset = S::set_int(W::kOffset * act_sum);
      for (std::int64_t v = 0; v < block_.vecs; ++v)
        out_(token, block_.row + v * kVecRows, S::sub(S::load(sums_[t] + v * kVecRows), offset));
    }
  }

 private:
  const Int8Acts& acts_;
  const std::int64_t groups_;
  const Out& out_;
  Block block_{};
  alignas(64) TokenSums sums_[kBlockTokens];
};

// A float sum over the groups, each weighted by its scale (E: float or F16).
template <class W, class E>
class GroupSums {
  using S = typename W::S;

 public:
  static constexpr bool kGroups = true;
  // Whether the quantizer's sums are those of a group; if not, the kernels add activations up.
  static constexpr bool kKnowsActSums = W::kGroup == kGroupSize;
  GroupSums(const LinearArgs& args, std::int64_t row_end)
      : args_(args),
        row_end_(row_end),
        scale_stride_((args.n + kPanelRows - 1) / kPanelRows * kPanelRows),
        groups_((args.k + W::kGroup - 1) / W::kGroup) {}

  typename S::F scale(std::int64_t row, std::int64_t group) const {
    return S::load(scales(row, group));
  }
  void prefetch_next_panel(std::int64_t row, std::int64_t group) const {
    S::prefetch(scales(row + kPanelRows, group));
  }
  std::int32_t act_sum(std::int64_t token, std::int64_t group) const {
    if constexpr (kKnowsActSums)
      return args_.acts.group_sum[token * args_.acts.group_stride + group];
    const std::int8_t* q = args_.acts.q + token * args_.acts.stride + group * W::kGroup;
    const std::int64_t count = smaller(W::kGroup, args_.k - group * W::kGroup);
    std::int32_t sum = 0;
    for (std::int64_t i = 0; i < count; ++i) sum += q[i];
    return sum;
  }
  static typename S::F add_group(typename S::F total, typename S::I sums, typename S::I offset,
                                 typename S::F scale) {
    return S::add(total, S::mul(S::to_float(S::sub(sums, offset)), scale));
  }
  void store(std::int64_t token, std::int64_t row, typename S::F total) const {
    store_rows<S>(args_.out + token * args_.out_stride + row,
                  S::mul(S::set(args_.acts.scale[token]), total), row_end_ - row);
  }

  // For GEMM; a GEMV keeps its totals in registers.
  TokenSums* begin(const Block& block) {
    block_ = block;
    for (std::int64_t t = 0; t < block.tokens; ++t)
      for (std::int64_t v = 0; v < block.vecs; ++v) S::store(total(t, v), S::set(0.0f));
    return sums_;
  }
  void end_part(std::int64_t group) {
    for (std::int64_t t = 0; t < block_.tokens; ++t)
      offsets_[t] = W::kOffset * act_sum(block_.token + t, group);
    for (std::int64_t v = 0; v < block_.vecs; ++v) {
      const auto row_scale = scale(block_.row + v * kVecRows, group);
      for (std::int64_t t = 0; t < block_.tokens; ++t)
        S::store(total(t, v), add_group(S::load(total(t, v)), S::load(sums_[t] + v * kVecRows),
                                        S::set_int(offsets_[t]), row_scale));
    }
  }
  void end() {
    for (std::int64_t t = 0; t < block_.tokens; ++t)
      for (std::int64_t v = 0; v < block_.vecs; ++v)
        store(block_.token + t, block_.row + v * kVecRows, S::load(total(t, v)));
  }

 private:
  static constexpr std::int64_t kPanelRows = W::kVecs * kVecRows;
  // As scale_index() of packing/formats.h; `row` is a multiple of 8.
  const E* scales(std::int64_t row, std::int64_t group) const {
    const E* scale = static_cast<const E*>(args_.scale);
    if constexpr (W::kScalesByPanel)
      return scale + (row / kPanelRows * groups_ + group) * kPanelRows + row % kPanelRows;
    return scale + group * scale_stride_ + row;
  }
  float* total(std::int64_t t, std::int64_t v) { return totals_[t] + v * kVecRows; }

  const LinearArgs& args_;
  const std::int64_t row_end_, scale_stride_, groups_;
  Block block_{};
  std::int32_t offsets_[kBlockTokens];
  alignas(64) TokenSums sums_[kBlockTokens];
  alignas(64) float totals_[kBlockTokens][kBlockRows];
};

}  // namespace
}  // namespace bitnet
