// Owns: what this CPU can do, asked once of cpuid (x86) or hwcap (arm).
#pragma once

#include <string>
#include <vector>

namespace bitnet {

struct CpuFeatures {
  bool avx2 = false;  // with FMA and F16C, and enabled by the operating system
  bool avx_vnni = false;
  bool avx512_vnni = false;  // F, BW, VL, DQ and VNNI
  bool avx512_vbmi = false;  // VBMI and all of avx512_vnni
  bool neon_dotprod = false;
  bool neon_i8mm = false;
};

const CpuFeatures& cpu_features();
std::vector<std::string> cpu_feature_names();  // those present
std::string cpu_brand();                       // "AMD EPYC ..." or "unknown"

}  // namespace bitnet
