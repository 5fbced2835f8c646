// Owns: the Ops of a CPU = kernel table + thread pool. Here is decided who computes what; the
// arithmetic is in kernels/. Output rows, tokens and heads are split, never a sum, so the number of
// threads changes no bit.
#include <algorithm>
#include <functional>

#include "base/aligned_buffer.h"
#include "engine/attention_cpu.h"
#include "engine/ops.h"

namespace bitnet {
namespace {

// The unit in which output rows are dealt to threads: a multiple of every format's panel.
constexpr std::int64_t kUnitRows = 32;
// Activations that a panel walks over should stay in a core's L2 while the weights stream by.
constexpr std::int64_t kTokenBlockBytes = 256 * 1024;

// One token or many in the form a kernel reads: float32, and int8 where a format asks for it.
struct PreparedInput {
  AlignedBuffer<float> x;
  AlignedBuffer<std::int8_t> q;
  AlignedBuffer<float> scale;
  AlignedBuffer<std::int32_t> group_sum;

  void reserve(std::int64_t tokens, std::int64_t k) {
    x.reserve(tokens * k);
    q.reserve(tokens * round_up(k, 8));
    scale.reserve(tokens);
    group_sum.reserve(tokens * ceil_div(k, kGroupSize));
  }
};

class CpuOps final : public Ops {
 public:
  CpuOps(const ModelConfig& config, const KernelTable& kernels, ThreadPool& pool)
      : config_(config),
        kernels_(kernels),
        pool_(pool),
        attention_(kernels, pool, config.head_dim),
        own_(static_cast<std::size_t>(pool.threads())) {}

  void embed(const Linear& table, const std::int32_t* ids, std::int64_t tokens, float* x) override {
    for (std::int64_t t = 0; t < tokens; ++t) dequantize_row(table, ids[t], x + t * table.k);
  }

  void linears(const LinearInput& input, std::int64_t tokens,
               const std::vector<LinearOutput>& outputs) override {
    std::int64_t units = 0;
    for (const LinearOutput& output : outputs) {
      units += ceil_div(output.weight->n, kUnitRows);
      if (output.accumulate) delta_.reserve(tokens * output.weight->n);
    }
    // The units of all outputs stand in one row; a share of it is cut at the outputs' borders.
    const auto share = [&](const PreparedInput& x, std::int64_t begin, std::int64_t end) {
      std::int64_t first = 0;
      for (const LinearOutput& output : outputs) {
        const std::int64_t count = ceil_div(output.weight->n, kUnitRows);
        run_units(output, x, tokens, std::max(begin - first, std::int64_t{0}),
                  std::min(end - first, count));
        first += count;
      }
    };
    const Linear& any = *outputs.front().weight;
    run_prepared(input, tokens, any.k, needs(outputs), units, share);
  }

  void gated_linears(const LinearInput& input, std::int64_t tokens, const Linear& gate,
                     const Linear& up, Activation act, float* scratch, float* out) override {
    const LinearOutput gate_output{&gate, out, false}, up_output{&up, scratch, false};
    const auto share = [&](const PreparedInput& x, std::int64_t begin, std::int64_t end) {
      run_units(gate_output, x, tokens, begin, end);
      run_units(up_output, x, tokens, begin, end);
      const std::int64_t row = begin * kUnitRows;
      const std::int64_t rows = std::min(end * kUnitRows, gate.n) - row;
      if (rows <= 0) return;
      for (std::int64_t t = 0; t < tokens; ++t) {
        float* g = out + t * gate.n + row;
        kernels_.gated_activation(act, g, scratch + t * gate.n + row, rows, g);
      }
    };
    run_prepared(input, tokens, gate.k, needs({gate_output, up_output}),
                 ceil_div(gate.n, kUnitRows), share);
  }

  void rope_append(const std::vector<BatchRow>& rows, std::int64_t layer, const float* cos,
                   const float* sin, float* q, float* k, const float* v) override {
    const std::int64_t dim = config_.head_dim;
    const std::int64_t heads = config_.num_attention_heads, kv_heads = config_.num_key_value_heads;
    const auto some = [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t t = begin; t < end; ++t) {
        const BatchRow& row = rows[static_cast<std::size_t>(t)];
        const float* c = cos + t * dim / 2;
        const float* s = sin + t * dim / 2;
        for (std::int64_t h = 0; h < heads; ++h)
          kernels_.rope(q + (t * heads + h) * dim, c, s, dim);
        for (std::int64_t h = 0; h < kv_heads; ++h) {
          float* key = k + (t * kv_heads + h) * dim;
          kernels_.rope(key, c, s, dim);
          kernels_.store_kv(key, v + (t * kv_heads + h) * dim, row.cache->head(layer, h),
                            row.position);
        }
      }
    };
    const auto tokens = static_cast<std::int64_t>(rows.size());
    // A rotated element costs about as much as four multiply-adds.
    if (tokens * (heads + kv_heads) * dim * 4 < kMinSharedWork)
      some(0, tokens, 0);
    else
      pool_.parallel_for(tokens, 1, some);
  }

  void attend(const std::vector<BatchRow>& rows, std::int64_t layer, const float* q,
              float* out) override {
    const std::int64_t heads = config_.num_attention_heads, kv_heads = config_.num_key_value_heads;
    const std::int64_t dim = config_.head_dim, group = heads / kv_heads;
    // An item is a run of rows of one sequence x some query heads of one KV head.
    const auto tokens = static_cast<std::int64_t>(rows.size());
    const std::int64_t run_rows = std::max(std::int64_t{1}, AttendItem::kMaxQueries / group);
    // When few items would leave threads idle, a group's heads go one by one.
    const bool is_alone = ceil_div(tokens, run_rows) * kv_heads < pool_.threads();
    const std::int64_t most_heads = is_alone ? 1 : AttendItem::kMaxQueries;
    items_.clear();
    for (std::int64_t begin = 0, end; begin < tokens; begin = end) {
      KvCache* cache = rows[static_cast<std::size_t>(begin)].cache;
      for (end = begin + 1; end < tokens && end - begin < run_rows; ++end)
        if (rows[static_cast<std::size_t>(end)].cache != cache) break;
      for (std::int64_t h = 0; h < heads;) {
        const std::int64_t head_end = std::min((h / group + 1) * group, h + most_heads);
        AttendItem& item = items_.emplace_back();
        item.kv = cache->head(layer, h / group);
        item.queries = 0;
        for (std::int64_t t = begin; t < end; ++t)
          for (std::int64_t i = h; i < head_end; ++i) {
            item.q[item.queries] = q + (t * heads + i) * dim;
            item.out[item.queries] = out + (t * heads + i) * dim;
            item.n_keys[item.queries++] = rows[static_cast<std::size_t>(t)].position + 1;
          }
        h = head_end;
      }
    }
    attention_.run(items_);
  }

 private:
  struct Needs {
    bool float32, int8;
  };
  static Needs needs(const std::vector<LinearOutput>& outputs) {
    Needs result{false, false};
    for (const LinearOutput& output : outputs) {
      const bool int8 = format_info(output.weight->format).int8_activations;
      (int8 ? result.int8 : result.float32) = true;
    }
    return result;
  }

  void prepare(const LinearInput& input, std::int64_t begin, std::int64_t end, std::int64_t k,
               Needs needs, PreparedInput& to) const {
    for (std::int64_t t = begin; t < end; ++t) {
      const float* x = input.x + t * k;
      if (input.norm) {
        float* normed = to.x.data() + t * k;
        kernels_.rms_norm(x, input.norm, input.eps, k, normed);
        x = normed;
      } else if (needs.float32) {
        std::copy(x, x + k, to.x.data() + t * k);
      }
      if (needs.int8)
        kernels_.quantize_act(x, k, to.q.data() + t * round_up(k, 8), to.scale.data() + t,
                              to.group_sum.data() + t * ceil_div(k, kGroupSize));
    }
  }

  // share(prepared, begin, end) for pieces of [0, units). One token is prepared by every worker
  // that takes a piece, for itself: cheaper than a barrier. Many are prepared together first.
  void run_prepared(
      const LinearInput& input, std::int64_t tokens, std::int64_t k, Needs needs,
      std::int64_t units,
      const std::function<void(const PreparedInput&, std::int64_t, std::int64_t)>& share) {
    const bool alone = units * kUnitRows * k * tokens < kMinSharedWork;
    const std::int64_t chunks = alone ? 1 : pool_.chunks_for(units);
    const auto piece = [&](const PreparedInput& x, std::int64_t chunk) {
      share(x, units * chunk / chunks, units * (chunk + 1) / chunks);
    };
    if (tokens == 1) {
      ++call_;
      for (OwnInput& own : own_) own.input.reserve(1, k);
      pool_.run(chunks, [&](std::int64_t chunk, int worker) {
        OwnInput& own = own_[static_cast<std::size_t>(worker)];
        if (own.call != call_) prepare(input, 0, 1, k, needs, own.input);
        own.call = call_;
        piece(own.input, chunk);
      });
      return;
    }
    shared_.reserve(tokens, k);
    const auto prepare_some = [&](std::int64_t begin, std::int64_t end, int) {
      prepare(input, begin, end, k, needs, shared_);
    };
    if (alone)
      prepare_some(0, tokens, 0);
    else
      pool_.parallel_for(tokens, 1, prepare_some);
    pool_.run(chunks, [&](std::int64_t chunk, int) { piece(shared_, chunk); });
  }

  // Rows [begin, end) of one output, in units, for all tokens: product, bias, residual.
  void run_units(const LinearOutput& output, const PreparedInput& x, std::int64_t tokens,
                 std::int64_t begin, std::int64_t end) {
    if (begin >= end) return;
    const Linear& w = *output.weight;
    const FormatInfo& info = format_info(w.format);
    const std::int64_t k_pad = round_up(w.k, 8), groups = ceil_div(w.k, kGroupSize);
    const std::int64_t row = begin * kUnitRows, row_end = std::min(end * kUnitRows, w.n);
    const std::int64_t block = std::max(
        kTokenBlockBytes / (info.int8_activations ? k_pad : 4 * w.k) / 12 * 12, std::int64_t{12});
    float* product = output.accumulate ? delta_.data() : output.out;
    for (std::int64_t t = 0; t < tokens; t += block) {
      const LinearArgs args{w.weight,
                            w.scale,
                            w.scale_kind,
                            w.scale_is_f16,
                            w.n,
                            w.k,
                            std::min(block, tokens - t),
                            x.x.data() + t * w.k,
                            w.k,
                            {x.q.data() + t * k_pad, k_pad, x.scale.data() + t,
                             x.group_sum.data() + t * groups, groups},
                            product + t * w.n,
                            w.n};
      kernels_.linear[static_cast<int>(w.format)](args, row / info.panel_rows,
                                                  ceil_div(row_end, info.panel_rows));
    }
    for (std::int64_t t = 0; t < tokens; ++t) {
      float* y = product + t * w.n + row;
      if (w.bias) kernels_.add(w.bias + row, row_end - row, y);
      if (output.accumulate) kernels_.add(y, row_end - row, output.out + t * w.n + row);
    }
  }

  const ModelConfig config_;
  const KernelTable& kernels_;
  ThreadPool& pool_;
  CpuAttention attention_;
  std::vector<AttendItem> items_;
  PreparedInput shared_;
  struct OwnInput {
    PreparedInput input;
    std::uint64_t call = 0;  // of run_prepared, for which it was prepared
  };
  std::vector<OwnInput> own_;  // by worker
  std::uint64_t call_ = 0;
  AlignedBuffer<float> delta_;  // what is to be added to a residual
};

}  // namespace

std::unique_ptr<Ops> make_cpu_ops(const ModelConfig& config, const KernelTable& kernels,
                                  ThreadPool& pool) {
  return std::make_unique<CpuOps>(config, kernels, pool);
}

}  // namespace bitnet
