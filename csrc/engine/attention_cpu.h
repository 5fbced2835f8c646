// Owns: who computes which part of attention on a CPU: items are shared among threads, and when
// they are few, their blocks of keys are. The arithmetic is in kernels/attend_inl.h.
#pragma once

#include <cstdint>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/thread_pool.h"
#include "kernels/kernel_table.h"

namespace bitnet {

// Queries of one sequence that attend to one KV head.
struct AttendItem {
  static constexpr std::int64_t kMaxQueries = 24;  // they share a pass over the keys
  const float* q[kMaxQueries];                     // [head_dim] each
  float* out[kMaxQueries];                         // [head_dim] each
  std::int64_t n_keys[kMaxQueries];                // at least 1
  std::int64_t queries;
  KvHead kv;
};

class CpuAttention {
 public:
  CpuAttention(const KernelTable& kernels, ThreadPool& pool, std::int64_t head_dim);

  void run(const std::vector<AttendItem>& items);

 private:
  void run_item(const AttendItem& item, int worker);
  void run_split(const std::vector<AttendItem>& items, std::int64_t units);
  AttendArgs arguments(const AttendItem& item, int worker);
  void finish(const AttendItem& item, const float* total) const;

  struct Scratch {  // of one worker
    AlignedBuffer<float> scores, total, partial;
  };
  struct Unit {  // of run_split
    std::int64_t item, block;
    float* partial;
  };
  const KernelTable& kernels_;
  ThreadPool& pool_;
  const std::int64_t head_dim_;
  const float scale_;
  std::vector<Scratch> scratch_;
  std::vector<Unit> units_;
  AlignedBuffer<float> partials_;
};

}  // namespace bitnet
