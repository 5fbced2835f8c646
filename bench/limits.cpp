// What this CPU can do at best: register loops of the kernels' instructions, and reading memory.
//
// Owns: loops whose registers are pinned by hand, so that no compiler spills what should stay. Does
// not own: which loops a CPU has, rounds and ratios (limits.py builds this file and calls it).
//
// c++ -std=c++17 -O2 -fPIC -shared -pthread bench/limits.cpp -o limits.so
#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#define BITNET_TARGET(features) __attribute__((noinline, target(features)))
#define BITNET_CLOBBERS                                                                    \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
      "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
// Twelve independent sums: more than latency times instructions per cycle of any CPU so far.
#define BITNET_TWELVE(one)                                                                  \
  one("0") one("1") one("2") one("3") one("4") one("5") one("6") one("7") one("8") one("9") \
      one("10") one("11")

namespace {

using std::int64_t;
using Clock = std::chrono::steady_clock;

constexpr int64_t kReadBlock = int64_t{1} << 20;

// ---- Register loops: so many rounds of twelve.

// The temporaries 14 and 15 alternate; a sum waits for its own last addition only.
#define BITNET_MADDUBS(a, b)                                              \
  "vpmaddubsw %%ymm13,%%ymm12,%%ymm14\nvpaddw %%ymm14,%%ymm" a ",%%ymm" a \
  "\n"                                                                    \
  "vpmaddubsw %%ymm13,%%ymm12,%%ymm15\nvpaddw %%ymm15,%%ymm" b ",%%ymm" b "\n"
BITNET_TARGET("avx2") void maddubs_paddw(int64_t rounds) {
  for (int64_t i = 0; i < rounds; ++i)
    asm volatile(BITNET_MADDUBS("0", "1") BITNET_MADDUBS("2", "3") BITNET_MADDUBS("4", "5")
                     BITNET_MADDUBS("6", "7") BITNET_MADDUBS("8", "9") BITNET_MADDUBS("10", "11")
                 :
                 :
                 : BITNET_CLOBBERS);
}

#define BITNET_FMA_256(sum) "vfmadd231ps %%ymm13,%%ymm12,%%ymm" sum "\n"
BITNET_TARGET("avx2,fma") void fma_256(int64_t rounds) {
  asm volatile("vxorps %%ymm12,%%ymm12,%%ymm12\nvxorps %%ymm13,%%ymm13,%%ymm13" ::
                   : "xmm12", "xmm13");
  for (int64_t i = 0; i < rounds; ++i)
    asm volatile(BITNET_TWELVE(BITNET_FMA_256) : : : BITNET_CLOBBERS);
}

#define BITNET_FMA_512(sum) "vfmadd231ps %%zmm13,%%zmm12,%%zmm" sum "\n"
BITNET_TARGET("avx512f") void fma_512(int64_t rounds) {
  asm volatile("vpxorq %%zmm12,%%zmm12,%%zmm12\nvpxorq %%zmm13,%%zmm13,%%zmm13" ::
                   : "xmm12", "xmm13");
  for (int64_t i = 0; i < rounds; ++i)
    asm volatile(BITNET_TWELVE(BITNET_FMA_512) : : : BITNET_CLOBBERS);
  _mm256_zeroupper();
}

#define BITNET_DP_VEX(sum) "%{vex%} vpdpbusd %%ymm13,%%ymm12,%%ymm" sum "\n"
BITNET_TARGET("avx2,avxvnni") void dpbusd_256_vex(int64_t rounds) {
  for (int64_t i = 0; i < rounds; ++i)
    asm volatile(BITNET_TWELVE(BITNET_DP_VEX) : : : BITNET_CLOBBERS);
}

#define BITNET_DP_256(sum) "vpdpbusd %%ymm13,%%ymm12,%%ymm" sum "\n"
BITNET_TARGET("avx512vnni,avx512vl") void dpbusd_256(int64_t rounds) {
  for (int64_t i = 0; i < rounds; ++i)
    asm volatile(BITNET_TWELVE(BITNET_DP_256) : : : BITNET_CLOBBERS);
}

#define BITNET_DP_512(sum) "vpdpbusd %%zmm13,%%zmm12,%%zmm" sum "\n"
BITNET_TARGET("avx512vnni,avx512f") void dpbusd_512(int64_t rounds) {
  for (int64_t i = 0; i < rounds; ++i)
    asm volatile(BITNET_TWELVE(BITNET_DP_512) : : : BITNET_CLOBBERS);
  _mm256_zeroupper();
}

void (*const kLoops[])(int64_t) = {maddubs_paddw,  fma_256,    fma_512,
                                   dpbusd_256_vex, dpbusd_256, dpbusd_512};

// ---- Reading: every byte once, in order, prefetching `ahead` bytes (0: not at all); the sum keeps
// the loads alive.

BITNET_TARGET("avx2")
void read_part(const std::uint8_t* begin, const std::uint8_t* end, int ahead, int64_t* sum) {
  __m256i sums[4] = {};
  const auto* at = reinterpret_cast<const __m256i*>(begin);
  const auto* stop = reinterpret_cast<const __m256i*>(end);
  for (; at + 8 <= stop; at += 8) {
    if (ahead > 0)
      for (int line = 0; line < 4; ++line)
        _mm_prefetch(reinterpret_cast<const char*>(at) + ahead + 64 * line, _MM_HINT_T0);
    for (int i = 0; i < 8; ++i)
      sums[i % 4] = _mm256_xor_si256(sums[i % 4], _mm256_loadu_si256(at + i));
  }
  const __m256i all =
      _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3]));
  *sum ^= _mm256_extract_epi64(all, 0);
}

// Runs work(thread) on so many threads; the clock runs from when all are there to the last end.
template <class Work>
double seconds_of(int threads, const Work& work) {
  std::atomic<int> ready{0}, left{threads};
  std::atomic<bool> go{false};
  std::vector<std::thread> others;
  const auto run = [&](int thread) {
    ++ready;
    while (!go) {
    }
    work(thread);
    --left;
  };
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(run, thread);
  while (ready < threads - 1) {
  }
  const auto start = Clock::now();
  go = true;
  run(0);
  while (left > 0) {
  }
  const std::chrono::duration<double> taken = Clock::now() - start;
  for (auto& other : others) other.join();
  return taken.count();
}

}  // namespace

extern "C" double limit_loop_seconds(int loop, int threads, int64_t rounds) {
  return seconds_of(threads, [&](int) { kLoops[loop](rounds); });
}

extern "C" double limit_read_seconds(const std::uint8_t* data, int64_t bytes, int threads,
                                     int ahead) {
  std::vector<int64_t> sums(static_cast<std::size_t>(threads) * 8);  // a cache line each
  std::atomic<int64_t> next{0};  // in blocks, so that a thread that was held up leaves the rest
  return seconds_of(threads, [&](int thread) {
    for (int64_t at = next++ * kReadBlock; at < bytes; at = next++ * kReadBlock)
      read_part(data + at, data + std::min(at + kReadBlock, bytes), ahead,
                &sums[static_cast<std::size_t>(thread) * 8]);
  });
}
