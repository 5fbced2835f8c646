#include "engine/attention_cpu.h"

#include <algorithm>
#include <cmath>

#include "packing/formats.h"

namespace bitnet {
namespace {

constexpr std::int64_t kMaxChunks = 4096;
// With fewer items per thread than this, some threads would wait for long at the end.
constexpr std::int64_t kItemsPerThread = 4;

std::int64_t block_count(const AttendItem& item) {
  return ceil_div(*std::max_element(item.n_keys, item.n_keys + item.queries), kKeyBlock);
}

}  // namespace

CpuAttention::CpuAttention(const KernelTable& kernels, ThreadPool& pool, std::int64_t head_dim)
    : kernels_(kernels),
      pool_(pool),
      head_dim_(head_dim),
      scale_(static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)))),
      scratch_(static_cast<std::size_t>(pool.threads())) {}

void CpuAttention::run(const std::vector<AttendItem>& items) {
  std::int64_t work = 0, blocks = 0;
  for (const AttendItem& item : items) {
    for (std::int64_t i = 0; i < item.queries; ++i) work += 2 * item.n_keys[i] * head_dim_;
    blocks += block_count(item);
  }
  const auto count = static_cast<std::int64_t>(items.size());
  if (work >= kMinSharedWork && count < kItemsPerThread * pool_.threads() && blocks > count &&
      pool_.threads() > 1)
    return run_split(items, blocks);
  // Later rows see more keys: taken first, the short ones fill the gaps at the end.
  const std::int64_t chunks = work < kMinSharedWork ? 1 : std::min(count, kMaxChunks);
  pool_.run(chunks, [&](std::int64_t chunk, int worker) {
    const std::int64_t end = count * (chunk + 1) / chunks;
    for (std::int64_t i = count * chunk / chunks; i < end; ++i)
      run_item(items[static_cast<std::size_t>(count - 1 - i)], worker);
  });
}

AttendArgs CpuAttention::arguments(const AttendItem& item, int worker) {
  Scratch& scratch = scratch_[static_cast<std::size_t>(worker)];
  return {item.q,  item.n_keys, item.queries,
          item.kv, scale_,      scratch.scores.reserve(attend_scratch_floats(item.queries))};
}

void CpuAttention::run_item(const AttendItem& item, int worker) {
  const AttendArgs args = arguments(item, worker);
  Scratch& scratch = scratch_[static_cast<std::size_t>(worker)];
  float* total = scratch.total.reserve(item.queries * partial_floats(head_dim_));
  float* partial = scratch.partial.reserve(item.queries * partial_floats(head_dim_));
  kernels_.attend_block(args, 0, total);
  for (std::int64_t block = 1; block < block_count(item); ++block) {
    kernels_.attend_block(args, block, partial);
    kernels_.attend_merge(partial, item.queries, head_dim_, total);
  }
  finish(item, total);
}

void CpuAttention::run_split(const std::vector<AttendItem>& items, std::int64_t units) {
  const std::int64_t floats = AttendItem::kMaxQueries * partial_floats(head_dim_);
  float* partial = partials_.reserve(units * floats);
  units_.clear();
  for (std::size_t i = 0; i < items.size(); ++i)
    for (std::int64_t block = 0; block < block_count(items[i]); ++block, partial += floats)
      units_.push_back({static_cast<std::int64_t>(i), block, partial});
  pool_.parallel_for(units, 1, [&](std::int64_t begin, std::int64_t end, int worker) {
    for (std::int64_t u = begin; u < end; ++u) {
      const Unit& unit = units_[static_cast<std::size_t>(u)];
      kernels_.attend_block(arguments(items[static_cast<std::size_t>(unit.item)], worker),
                            unit.block, unit.partial);
    }
  });
  // The merges are a few thousand operations: not worth another round of the pool.
  for (std::size_t u = 0; u < units_.size();) {
    const AttendItem& item = items[static_cast<std::size_t>(units_[u].item)];
    float* total = units_[u].partial;
    for (std::int64_t block = 1; block < block_count(item); ++block)
      kernels_.attend_merge(units_[++u].partial, item.queries, head_dim_, total);
    ++u;
    finish(item, total);
  }
}

void CpuAttention::finish(const AttendItem& item, const float* total) const {
  for (std::int64_t i = 0; i < item.queries; ++i, total += partial_floats(head_dim_))
    kernels_.attend_finish(total, head_dim_, item.out[i]);
}

}  // namespace bitnet
