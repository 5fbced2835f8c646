#include "kernels/registry.h"

#include <cstdlib>

#include "base/check.h"
#include "base/cpu_features.h"

namespace bitnet {

extern const KernelTable kAvx512VbmiTable;
extern const KernelTable kAvx512VnniTable;
extern const KernelTable kAvxVnniTable;
extern const KernelTable kAvx2Table;
extern const KernelTable kNeonI8mmTable;
extern const KernelTable kNeonDotprodTable;
extern const KernelTable kGenericTable;

namespace {

struct Entry {
  const KernelTable* table;
  bool CpuFeatures::* needs;  // nullptr: nothing
};

// Best first. An ISA is one entry here and one bitnet_add_isa line in CMakeLists.txt.
constexpr Entry kEntries[] = {
#if BITNET_HAVE_AVX512_VBMI
    {&kAvx512VbmiTable, &CpuFeatures::avx512_vbmi},
#endif
#if BITNET_HAVE_AVX512_VNNI
    {&kAvx512VnniTable, &CpuFeatures::avx512_vnni},
#endif
#if BITNET_HAVE_AVX_VNNI
    {&kAvxVnniTable, &CpuFeatures::avx_vnni},
#endif
#if BITNET_HAVE_AVX2
    {&kAvx2Table, &CpuFeatures::avx2},
#endif
#if BITNET_HAVE_NEON_I8MM
    {&kNeonI8mmTable, &CpuFeatures::neon_i8mm},
#endif
#if BITNET_HAVE_NEON_DOTPROD
    {&kNeonDotprodTable, &CpuFeatures::neon_dotprod},
#endif
    {&kGenericTable, nullptr},
};

bool runs_here(const Entry& entry) { return !entry.needs || cpu_features().*entry.needs; }

template <class Fn>
void fill(Fn& slot, Fn from) {
  if (!slot) slot = from;
}

// An ISA need not bring every kernel: what it leaves empty comes from the next best table.
KernelTable filled(KernelTable table, const KernelTable& next) {
  for (int i = 0; i < kNumFormats; ++i) {
    fill(table.linear[i], next.linear[i]);
    fill(table.dot[i], next.dot[i]);
  }
  fill(table.expand_trits5, next.expand_trits5);
  fill(table.quantize_act, next.quantize_act);
  fill(table.rms_norm, next.rms_norm);
  fill(table.rope, next.rope);
  fill(table.gated_activation, next.gated_activation);
  fill(table.add, next.add);
  fill(table.store_kv, next.store_kv);
  fill(table.attend_block, next.attend_block);
  fill(table.attend_merge, next.attend_merge);
  fill(table.attend_finish, next.attend_finish);
  fill(table.block_maxima, next.block_maxima);
  fill(table.sum_exp, next.sum_exp);
  return table;
}

// The tables that run here, best first, without empty slots.
const std::vector<KernelTable>& tables() {
  static const std::vector<KernelTable> result = [] {
    std::vector<KernelTable> list;
    for (const Entry& entry : kEntries)
      if (runs_here(entry)) list.push_back(*entry.table);
    for (std::size_t i = list.size() - 1; i-- > 0;) list[i] = filled(list[i], list[i + 1]);
    return list;
  }();
  return result;
}

}  // namespace

std::vector<const KernelTable*> available_tables() {
  std::vector<const KernelTable*> result;
  for (const KernelTable& table : tables()) result.push_back(&table);
  return result;
}

std::vector<std::string> compiled_isas() {
  std::vector<std::string> names;
  for (const Entry& entry : kEntries) names.emplace_back(entry.table->name);
  return names;
}

const KernelTable& select_table(const std::string& name) {
  std::string wanted = name;
  const char* op = "isa";
  if (wanted.empty()) {
    if (const char* forced = std::getenv("BITNET_ISA")) {
      wanted = forced;
      op = "BITNET_ISA";
    }
  }
  if (wanted.empty()) return tables().front();
  std::string runnable;
  for (const KernelTable& table : tables()) {
    if (wanted == table.name) return table;
    runnable += (runnable.empty() ? "" : ", ") + std::string(table.name);
  }
  bool compiled = false;
  for (const Entry& entry : kEntries) compiled = compiled || wanted == entry.table->name;
  check_arg(false, op, "expected one of ", runnable, ", got '", wanted, "'",
            compiled ? ", which this CPU cannot run" : "");
  return tables().front();
}

}  // namespace bitnet
