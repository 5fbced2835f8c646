#include "base/cpu_features.h"

#include <cstdint>
#include <cstring>

#if defined(__x86_64__) || defined(_M_X64)
#define BITNET_X86 1
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#define BITNET_ARM_LINUX 1
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#define BITNET_ARM_APPLE 1
#include <sys/sysctl.h>
#endif

namespace bitnet {
namespace {

#if BITNET_X86

struct Registers {
  std::uint32_t a, b, c, d;
};

#if defined(_MSC_VER)
Registers cpuid(std::uint32_t leaf, std::uint32_t subleaf = 0) {
  int r[4];
  __cpuidex(r, static_cast<int>(leaf), static_cast<int>(subleaf));
  Registers registers;
  std::memcpy(&registers, r, sizeof registers);
  return registers;
}
std::uint64_t enabled_state() { return _xgetbv(0); }
#else
Registers cpuid(std::uint32_t leaf, std::uint32_t subleaf = 0) {
  Registers r{};
  __cpuid_count(leaf, subleaf, r.a, r.b, r.c, r.d);
  return r;
}
// XCR0. In assembly, because the intrinsic would need the whole file compiled with -mxsave.
std::uint64_t enabled_state() {
  std::uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}
#endif

constexpr bool has(std::uint64_t bits, std::uint64_t wanted) { return (bits & wanted) == wanted; }
constexpr std::uint32_t bit(int i) { return std::uint32_t{1} << i; }

// Bits: Intel SDM vol. 2A, CPUID. A register width counts only if the operating system saves it.
CpuFeatures detect() {
  CpuFeatures features;
  const std::uint32_t last_leaf = cpuid(0).a;
  const Registers basic = cpuid(1);
  constexpr std::uint32_t kFma = bit(12), kOsxsave = bit(27), kAvx = bit(28), kF16c = bit(29);
  if (last_leaf < 7 || !has(basic.c, kFma | kOsxsave | kAvx | kF16c)) return features;
  const std::uint64_t state = enabled_state();
  constexpr std::uint64_t kYmmState = 0x6, kZmmState = 0xe6;
  const Registers extended = cpuid(7);
  constexpr std::uint32_t kAvx2 = bit(5), kAvx512F = bit(16), kAvx512Dq = bit(17),
                          kAvx512Bw = bit(30), kAvx512Vl = bit(31);     // ebx
  constexpr std::uint32_t kAvx512Vbmi = bit(1), kAvx512Vnni = bit(11);  // ecx
  constexpr std::uint32_t kAvxVnni = bit(4);                            // eax of subleaf 1
  features.avx2 = has(extended.b, kAvx2) && has(state, kYmmState);
  if (!features.avx2) return features;
  features.avx_vnni = extended.a >= 1 && has(cpuid(7, 1).a, kAvxVnni);
  features.avx512_vnni = has(extended.b, kAvx512F | kAvx512Dq | kAvx512Bw | kAvx512Vl) &&
                         has(extended.c, kAvx512Vnni) && has(state, kZmmState);
  features.avx512_vbmi = features.avx512_vnni && has(extended.c, kAvx512Vbmi);
  return features;
}

std::string brand() {
  if (cpuid(0x80000000u).a < 0x80000004u) return {};
  char text[49] = {};
  for (std::uint32_t i = 0; i < 3; ++i) {
    const Registers part = cpuid(0x80000002u + i);
    std::memcpy(text + 16 * i, &part, sizeof part);
  }
  return text;
}

#elif BITNET_ARM_LINUX

CpuFeatures detect() {
  constexpr unsigned long kAsimdDp = 1ul << 20, kI8mm = 1ul << 13;  // HWCAP, HWCAP2
  CpuFeatures features;
  features.neon_dotprod = (getauxval(AT_HWCAP) & kAsimdDp) != 0;
  features.neon_i8mm = features.neon_dotprod && (getauxval(AT_HWCAP2) & kI8mm) != 0;
  return features;
}

std::string brand() { return {}; }

#elif BITNET_ARM_APPLE

bool sysctl_flag(const char* name) {
  int value = 0;
  std::size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}

CpuFeatures detect() {
  CpuFeatures features;
  features.neon_dotprod = sysctl_flag("hw.optional.arm.FEAT_DotProd");
  features.neon_i8mm = features.neon_dotprod && sysctl_flag("hw.optional.arm.FEAT_I8MM");
  return features;
}

std::string brand() {
  char text[128] = {};
  std::size_t size = sizeof text - 1;
  return sysctlbyname("machdep.cpu.brand_string", text, &size, nullptr, 0) == 0 ? text : "";
}

#else

CpuFeatures detect() { return {}; }
std::string brand() { return {}; }

#endif

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

std::vector<std::string> cpu_feature_names() {
  const CpuFeatures& f = cpu_features();
  std::vector<std::string> names;
  if (f.avx2) names.emplace_back("avx2");
  if (f.avx_vnni) names.emplace_back("avx_vnni");
  if (f.avx512_vnni) names.emplace_back("avx512_vnni");
  if (f.avx512_vbmi) names.emplace_back("avx512_vbmi");
  if (f.neon_dotprod) names.emplace_back("neon_dotprod");
  if (f.neon_i8mm) names.emplace_back("neon_i8mm");
  return names;
}

std::string cpu_brand() {
  std::string text = brand();
  while (!text.empty() && text.back() == ' ') text.pop_back();
  const std::size_t first = text.find_first_not_of(' ');
  return first == std::string::npos ? "unknown" : text.substr(first);
}

}  // namespace bitnet
