// Owns: the features of a CPU on which SIMDe stands in for what is missing.
#include "base/cpu_features.h"

namespace bitnet {

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = [] {
    CpuFeatures all;
    all.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    all.avx_vnni = all.avx512_vnni = all.avx512_vbmi = all.neon_dotprod = all.avx2;
    return all;
  }();
  return features;
}

}  // namespace bitnet
