// Which stored order of 2-bit ternary codes multiplies fastest: the measurement behind ternary2.
//
// Owns: three orders of the same codes, W1.58A8 kernels written in good faith for each (GEMV and
// GEMM in AVX2, GEMV in AVX-512 VNNI), an exact check of every kernel, interleaved timings.
// Does not own: the product's format (csrc/packing/ternary2.h) or its kernels (csrc/kernels);
// nothing here is linked into them.
//
// Build: g++ -std=c++17 -O3 -mavx2 -mfma -pthread bench/layouts.cpp -o layouts   (or clang++)
// Run:   ./layouts [--json OUT]
//
// In every kernel: code = w + 1 in {0, 1, 2} is the unsigned operand, y = codes . x (a caller
// subtracts sum(x)). Activations are put in a kernel's order outside its timing: a quantizer
// writes any order at once.
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#if defined(__GNUC__) && !defined(__clang__)  // gcc 12's own AVX-512 header (its bug 105593)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#define BITNET_VNNI __attribute__((target("avx512f,avx512bw,avx512vnni")))

namespace {

// ---- Layouts. A tile is 128 codes in 32 bytes; the tiles of a panel of kTileRows rows follow each
// other along K, panels along N. row and col tell which code a 2-bit field of a byte holds. One
// field of a tile, decoded, is a "step" of kVecRows rows x kStepCols columns, and meets kActBytes
// of activations: a dword for all rows, or a vector with what each lane wants.

struct Ternary2 {  // fields are rows: a dword is 4 columns of a row, its fields 4 rows 8 apart
  static constexpr const char* kName = "ternary2";
  static constexpr int kTileRows = 32, kTileCols = 4, kVecRows = 8, kStepCols = 4, kActBytes = 4;
  static constexpr bool kFieldIsRow = true;
  static int row(int byte, int field) { return 8 * field + byte / 4; }
  static int col(int byte, int) { return byte % 4; }
};

struct Rows4 {  // a dword is 4 columns of one of 4 rows, fields are columns (ik's IQ2_BN_R4)
  static constexpr const char* kName = "rows4";
  static constexpr int kTileRows = 4, kTileCols = 32, kVecRows = 4, kStepCols = 8, kActBytes = 32;
  static constexpr bool kFieldIsRow = false;
  static int row(int byte, int) { return byte / 4 % 4; }
  static int col(int byte, int field) { return byte / 16 * 16 + 4 * field + byte % 4; }
};

struct Rows {  // each row for itself, fields 32 columns apart (bitnet.cpp's I2_S)
  static constexpr const char* kName = "rows";
  static constexpr int kTileRows = 1, kTileCols = 128, kVecRows = 1, kStepCols = 32, kActBytes = 32;
  static constexpr bool kFieldIsRow = false;
  static int row(int, int) { return 0; }
  static int col(int byte, int field) { return 32 * field + byte; }
};

struct Shape {
  long n, k, tokens;  // y [tokens][N] = x [tokens][K] . codes [N][K] transposed
  long bytes() const { return n * k / 4; }
};

// Computes rows n0..n1; x in the layout's own order (arrange below).
using Kernel = void (*)(const uint8_t* w, const int8_t* x, Shape s, long n0, long n1, int32_t* y);

constexpr int kSteps = 64;       // vpmaddubsw steps an int16 sum holds: 64 * 2 * 2 * 128 = 32768
constexpr int kWide = 6;         // columns of the register tile: 12 sums, 2 codes, 2 temporaries
constexpr int kBlockVecs = 4;    // vectors of rows decoded at once: 4 x 64 steps = 8 KiB of L1
constexpr int kReps = 31;        // timings per contender
constexpr int kMaxTokens = 256;  // what the GEMM's scratch of sums is sized for

__m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
void prefetch(const uint8_t* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
__m256i field(__m256i codes, int f) {
  return _mm256_and_si256(_mm256_srli_epi16(codes, 2 * f), _mm256_set1_epi8(3));
}
__m256i widen(__m256i sums) { return _mm256_madd_epi16(sums, _mm256_set1_epi16(1)); }
__m256i sum4(const __m256i* v, __m256i (*add)(__m256i, __m256i)) {
  return add(add(v[0], v[1]), add(v[2], v[3]));
}
template <class T>
T word(const void* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class L>
const uint8_t* panel(const uint8_t* w, long n, long k_size) {
  return w + n / L::kTileRows * L::kTileRows * k_size / 4;
}

// Stores the kVecRows results that the eight int32 lanes add up to.
template <class L>
void store_rows(__m256i v, int32_t* y) {
  const __m128i h = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  const __m128i q = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4E));
  if constexpr (L::kVecRows == 8)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), v);
  else if constexpr (L::kVecRows == 4)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), h);
  else
    *y = _mm_cvtsi128_si32(_mm_add_epi32(q, _mm_shuffle_epi32(q, 0xB1)));
}

// ---- GEMV: rows n0..n1, one column of activations, prefetch kAhead bytes ahead (0: none).

// One panel at a time. Reading 2 or 4 panels of Rows or Rows4 side by side, to share the loads of
// activations, was tried: 0.4 to 0.8 of the speed from DRAM, no more than 7 % gained from L3.
template <class L, int kAhead>
void gemv(const uint8_t* w, const int8_t* x, Shape s, long n0, long n1, int32_t* y) {
  constexpr int kSums = L::kFieldIsRow ? 4 : 1;
  constexpr long kRunBytes = 32L * kSteps / (4 / kSums);  // tiles until an int16 sum is full
  for (long n = n0; n < n1; n += L::kTileRows) {
    const uint8_t *p = panel<L>(w, n, s.k), *end = panel<L>(w, n + L::kTileRows, s.k);
    const int8_t* a = x;
    __m256i sum[kSums] = {};
    while (p < end) {
      __m256i acc[kSums] = {};
      for (const uint8_t* stop = p + std::min<long>(kRunBytes, end - p); p < stop; p += 64) {
        if (kAhead) prefetch(p + kAhead);
        for (int u = 0; u < 2; u++) {
          const __m256i c = load(p + 32 * u);
          if constexpr (L::kFieldIsRow) {
            const __m256i act = _mm256_set1_epi32(word<int32_t>(a));
            for (int f = 0; f < 4; f++)
              acc[f] = _mm256_add_epi16(acc[f], _mm256_maddubs_epi16(field(c, f), act));
            a += 4;
          } else {
            __m256i m[4];
            for (int f = 0; f < 4; f++) m[f] = _mm256_maddubs_epi16(field(c, f), load(a + 32 * f));
            acc[0] = _mm256_add_epi16(acc[0], sum4(m, _mm256_add_epi16));
            a += 128;
          }
        }
      }
      for (int i = 0; i < kSums; i++) sum[i] = _mm256_add_epi32(sum[i], widen(acc[i]));
    }
    for (int i = 0; i < kSums; i++) store_rows<L>(sum[i], y + n + i * L::kVecRows);
  }
}

// vpdpbusd sums in int32, so a field needs no shift: mask it in place and divide its sum by 1, 4,
// 16 or 64 at the end (exact; 2 * 64 * 128 * K stays below 2^31 up to K = 131071). A register holds
// two tiles along K. Two sets of sums hide the latency where activations cost nothing; with a load
// of activations per product they only cost speed from DRAM (tried).
template <class L>
BITNET_VNNI void gemv_vnni(const uint8_t* w, const int8_t* x, Shape s, long n0, long n1,
                           int32_t* y) {
  constexpr int kSets = L::kFieldIsRow ? 2 : 1;
  const __m512i masks[4] = {_mm512_set1_epi8(3), _mm512_set1_epi8(12), _mm512_set1_epi8(48),
                            _mm512_set1_epi8(-64)};
  const __m512i halves = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
  for (long n = n0; n < n1; n += L::kTileRows) {
    const uint8_t *p = panel<L>(w, n, s.k), *end = panel<L>(w, n + L::kTileRows, s.k);
    const int8_t* a = x;
    __m512i acc[kSets][4] = {};
    while (p < end)
      for (int u = 0; u < kSets; u++, p += 64) {
        prefetch(p + 4096);
        const __m512i c = _mm512_loadu_si512(p);
        const __m512i same = _mm512_permutexvar_epi32(  // a dword for each of the two tiles
            halves, _mm512_set1_epi64(word<int64_t>(a)));
        for (int f = 0; f < 4; f++) {
          const __m512i act = L::kFieldIsRow ? same : _mm512_loadu_si512(a + 64 * f);
          acc[u][f] = _mm512_dpbusd_epi32(acc[u][f], _mm512_and_si512(c, masks[f]), act);
        }
        a += L::kFieldIsRow ? 8 : 256;
      }
    __m256i sum[4];
    for (int f = 0; f < 4; f++) {
      __m512i v = acc[0][f];
      if constexpr (kSets == 2) v = _mm512_add_epi32(v, acc[1][f]);
      v = _mm512_srav_epi32(v, _mm512_set1_epi32(2 * f));
      sum[f] = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
      if constexpr (L::kFieldIsRow) store_rows<L>(sum[f], y + n + 8 * f);
    }
    if constexpr (!L::kFieldIsRow) store_rows<L>(sum4(sum, _mm256_add_epi32), y + n);
  }
}

// What the memory gives: the same bytes, read and added.
void read_only(const uint8_t* w, const int8_t*, Shape s, long n0, long n1, int32_t* y) {
  __m256i v[4] = {};
  for (const uint8_t *p = w + n0 * s.k / 4, *end = w + n1 * s.k / 4; p < end; p += 128)
    for (int i = 0; i < 4; i++) v[i] = _mm256_add_epi8(v[i], load(p + 32 * i));
  store_rows<Ternary2>(sum4(v, _mm256_add_epi8), y + n0);
}

// ---- GEMM: a block of weights is decoded into L1 once and meets every column from there.

// One asm statement per column keeps 12 sums, 2 codes and 2 temporaries in the 16 registers under
// gcc and clang alike (gcc 12 spills the same intrinsics, clang 14 a load left outside).
template <int kActBytes>
inline void multiply_add(__m256i w0, __m256i w1, const int8_t* x, __m256i& a0, __m256i& a1) {
  __m256i t, u;
#define BITNET_MULTIPLY_ADD(LOAD)                                         \
  __asm__(LOAD                                                            \
          " %6, %2\n\tvpmaddubsw %2, %4, %3\n\tvpmaddubsw %2, %5, %2\n\t" \
          "vpaddw %3, %0, %0\n\tvpaddw %2, %1, %1"                        \
          : "+x"(a0), "+x"(a1), "=&x"(t), "=&x"(u)                        \
          : "x"(w0), "x"(w1), "m"(*reinterpret_cast<const char (*)[kActBytes]>(x)))
  if constexpr (kActBytes == 4)
    BITNET_MULTIPLY_ADD("vpbroadcastd");
  else
    BITNET_MULTIPLY_ADD("vmovdqa");
#undef BITNET_MULTIPLY_ADD
}

// 2 vectors of rows x sizeof...(J) columns over `steps` steps; `sums` holds [column][2] vectors.
template <int kActBytes, size_t... J>
__attribute__((noinline)) void register_tile(const __m256i* codes, const int8_t* x, long steps,
                                             bool first, __m256i* sums, std::index_sequence<J...>) {
  __m256i acc[sizeof...(J)][2] = {};
  for (long s = 0; s < steps; s++, codes += 2, x += kActBytes * sizeof...(J))
    (multiply_add<kActBytes>(codes[0], codes[1], x + kActBytes * J, acc[J][0], acc[J][1]), ...);
  const auto flush = [first](__m256i sum, __m256i& out) {  // a loop would turn acc to memory
    out = first ? widen(sum) : _mm256_add_epi32(out, widen(sum));
  };
  ((flush(acc[J][0], sums[2 * J]), flush(acc[J][1], sums[2 * J + 1])), ...);
}

// Decodes `steps` steps from column k on of the block at row n into out[pair][step][2]: one panel
// if fields are rows, else kBlockVecs panels.
template <class L>
void decode(const uint8_t* w, long k_size, long n, long k, long steps, __m256i* out) {
  for (int i = 0; i < (L::kFieldIsRow ? 1 : kBlockVecs); i++) {
    const uint8_t* p = panel<L>(w, n + i * L::kTileRows, k_size) + k / L::kTileCols * 32;
    for (long t = 0; t < steps * L::kStepCols / L::kTileCols; t++) {
      const __m256i c = load(p + 32 * t);
      if (t % 2 == 0) prefetch(p + 32 * t + 2048);
      for (int f = 0; f < 4; f++) {
        const long vec = L::kFieldIsRow ? f : i, step = L::kFieldIsRow ? t : 4 * t + f;
        out[(vec / 2 * kSteps + step) * 2 + vec % 2] = field(c, f);
      }
    }
  }
}

template <class L>
void gemm(const uint8_t* w, const int8_t* x, Shape s, long n0, long n1, int32_t* y) {
  static thread_local __m256i codes[kBlockVecs * kSteps], sums[kMaxTokens * kBlockVecs];
  const long column_bytes = s.k / L::kStepCols * L::kActBytes;
  for (long n = n0; n < n1; n += kBlockVecs * L::kVecRows) {
    for (long k = 0; k < s.k; k += kSteps * L::kStepCols) {
      const long steps = std::min<long>(kSteps, (s.k - k) / L::kStepCols);
      decode<L>(w, s.k, n, k, steps, codes);
      for (long t = 0; t < s.tokens; t += kWide) {
        const long width = std::min<long>(kWide, s.tokens - t);
        const int8_t* a = x + t * column_bytes + k / L::kStepCols * width * L::kActBytes;
        for (int pair = 0; pair < kBlockVecs / 2; pair++) {
          const __m256i* c = codes + pair * kSteps * 2;
          __m256i* out = sums + t * kBlockVecs + pair * width * 2;
          if (width == kWide)
            register_tile<L::kActBytes>(c, a, steps, k == 0, out,
                                        std::make_index_sequence<kWide>());
          else  // every measured number of tokens leaves 4
            register_tile<L::kActBytes>(c, a, steps, k == 0, out, std::make_index_sequence<4>());
        }
      }
    }
    for (long t = 0; t < s.tokens; t++) {
      const long t0 = t / kWide * kWide, width = std::min<long>(kWide, s.tokens - t0);
      for (int vec = 0; vec < kBlockVecs; vec++)
        store_rows<L>(sums[t0 * kBlockVecs + (vec / 2 * width + t - t0) * 2 + vec % 2],
                      y + t * s.n + n + vec * L::kVecRows);
    }
  }
}

// ---- Operands.

// Bytes on a 64-byte boundary, as an engine keeps them: no load is split between cache lines.
struct alignas(64) Line {
  uint8_t bytes[64];
};
using Lines = std::vector<Line>;

struct Problem {
  Shape s;
  std::vector<uint8_t> codes;     // [N][K]
  std::vector<int8_t> x;          // [tokens][K]
  std::vector<int32_t> expected;  // [tokens][N]
};

// Random, but for the extremes that meet in row 0 of token 0: int16 sums of exactly -32768.
Problem make_problem(Shape s) {
  Problem p{s, {}, {}, {}};
  std::mt19937 random(2);
  std::generate_n(std::back_inserter(p.codes), s.n * s.k, [&] { return random() % 3; });
  std::generate_n(std::back_inserter(p.x), s.tokens * s.k, [&] { return random() & 255; });
  std::fill_n(p.codes.begin(), s.k, uint8_t{2});
  std::fill_n(p.x.begin(), s.k, int8_t{-128});
  for (long t = 0; t < s.tokens; t++)
    for (long n = 0; n < s.n; n++)
      p.expected.push_back(std::inner_product(&p.codes[n * s.k], &p.codes[n * s.k] + s.k,
                                              &p.x[t * s.k], int32_t{0}));
  return p;
}

template <class L>
Lines pack(const Problem& p) {
  Lines out(p.s.bytes() / 64 + 1);
  uint8_t* at = out[0].bytes;
  for (long n = 0; n < p.s.n; n += L::kTileRows)
    for (long k = 0; k < p.s.k; k += L::kTileCols)
      for (int b = 0; b < 32; b++, at++)
        for (int f = 0; f < 4; f++)
          *at |= p.codes[(n + L::row(b, f)) * p.s.k + k + L::col(b, f)] << (2 * f);
  return out;
}

// Activations as [tile of kWide tokens][step][token][tile of join][kActBytes].
template <class L>
Lines arrange(const Problem& p, int join) {
  Lines out(p.s.tokens * p.s.k / L::kStepCols * L::kActBytes / 64 + 1);
  uint8_t* at = out[0].bytes;
  for (long t0 = 0; t0 < p.s.tokens; t0 += kWide)
    for (long k = 0; k < p.s.k; k += L::kTileCols * join)
      for (int f = 0; f < L::kTileCols / L::kStepCols; f++)
        for (long t = t0; t < std::min(t0 + kWide, p.s.tokens); t++)
          for (int j = 0; j < join; j++)
            for (int b = 0; b < L::kActBytes; b++)
              *at++ = static_cast<uint8_t>(p.x[t * p.s.k + k + j * L::kTileCols + L::col(b, f)]);
  return out;
}

// ---- The contest.

struct Contender {
  const char *name, *layout;
  Kernel kernel;
  Lines x;

  void run(const uint8_t* w, Shape s, long n0, long n1, int32_t* y) const {
    kernel(w, reinterpret_cast<const int8_t*>(x[0].bytes), s, n0, n1, y);
  }
};

bool has_vnni() {
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni");
}

// Enters a layout's kernels, each once it has proved exact.
template <class L>
void enter(std::vector<Contender>& list, const Problem& p) {
  const Lines w = pack<L>(p);
  const auto add = [&](const char* name, Kernel kernel, int join) {
    list.push_back({name, L::kName, kernel, arrange<L>(p, join)});
    std::vector<int32_t> y(p.expected.size());
    list.back().run(w[0].bytes, p.s, 0, p.s.n, y.data());
    if (y == p.expected) return;
    std::fprintf(stderr, "%s %s: wrong product\n", name, L::kName);
    std::exit(1);
  };
  if (p.s.tokens > 1) return add("avx2", gemm<L>, 1);
  add("avx2", gemv<L, 0>, 1);
  add("avx2 prefetch 4K", gemv<L, 4096>, 1);
  if (has_vnni()) add("avx512_vnni prefetch 4K", gemv_vnni<L>, 2);
}

// Processor time of this thread: on a shared machine, moments of other programs do not count. (With
// 2 threads from DRAM the figures are then too high, as the two may not meet: trust the ratios.)
double thread_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct Bench {
  Lines store;
  long cursor = 0;
  std::string rows = {};

  explicit Bench(long mb) : store(mb << 14) {
    std::mt19937 random(1);  // codes 0 and 1 will do: no kernel's time depends on them
    std::generate_n(store[0].bytes, mb << 20, [&] { return random() & 0x55; });
  }

  // Runs the contenders in turn, another one first each time, so that a busy moment hits them all.
  void compare(const std::vector<Contender>& list, Shape s, int threads, bool dram) {
    const long copies = dram ? static_cast<long>(store.size()) * 64 / s.bytes() : 1;
    std::vector<int32_t> y(s.n * s.tokens);
    const auto seconds = [&](const Contender& c, long passes) {
      std::vector<double> spent(threads);
      const auto work = [&](int t) {
        const double start = thread_seconds();
        for (long i = 0; i < passes; i++)
          c.run(store[0].bytes + (cursor + i) % copies * s.bytes(), s, s.n / 32 * t / threads * 32,
                s.n / 32 * (t + 1) / threads * 32, y.data());
        spent[t] = thread_seconds() - start;
      };
      std::vector<std::thread> others;
      for (int t = 1; t < threads; t++) others.emplace_back(work, t);
      work(0);
      for (auto& o : others) o.join();
      cursor += passes;  // a copy just read is met again only after all the others
      return *std::max_element(spent.begin(), spent.end()) / static_cast<double>(passes);
    };
    seconds(list[0], 1);
    const long passes = std::max(1L, static_cast<long>(6e-3 / seconds(list[0], 2)));
    const bool gemv = s.tokens == 1;
    const double amount = static_cast<double>(s.bytes()) * (gemv ? 1 : 4 * s.tokens) / 1e9;
    std::vector<std::array<double, kReps>> rate(list.size()), ratio(list.size());
    for (int r = 0; r < kReps; r++) {
      for (size_t i = 0; i < list.size(); i++) {
        const size_t which = (i + r) % list.size();
        rate[which][r] = amount / seconds(list[which], passes);
      }
      for (size_t i = 0; i < list.size(); i++)  // to ternary2's of the same name: it entered first
        ratio[i][r] = rate[i][r] / rate[i % (list.size() / 3)][r];
    }
    for (size_t i = 0; i < list.size(); i++) {
      std::sort(rate[i].begin(), rate[i].end());
      std::sort(ratio[i].begin(), ratio[i].end());
      const double median = rate[i][kReps / 2];
      char row[512];
      std::snprintf(row, sizeof row,
                    R"({"name": "%s", "layout": "%s", "phase": "%s T=%ld", "shape": "%ldx%ld", )"
                    R"("threads": %d, "source": "%s", "value": %.1f, "unit": "%s", )"
                    R"("ratio": %.3f, "n": %d, "spread": %.3f})",
                    list[i].name, list[i].layout, gemv ? "gemv" : "gemm", s.tokens, s.n, s.k,
                    threads, dram ? "DRAM" : "L3", median, gemv ? "GB/s" : "GMAC/s",
                    ratio[i][kReps / 2], kReps,
                    (rate[i][kReps * 3 / 4] - rate[i][kReps / 4]) / median);
      std::puts(row);
      rows += (rows.empty() ? "\n  " : ",\n  ") + std::string(row);
    }
  }
};

std::string header() {
#ifdef __clang__
  const std::string compiler = __VERSION__;
#else
  const std::string compiler = "gcc " __VERSION__;
#endif
  const char* script =
      R"(awk -F': *' '/^model name/{m=$2} /^cpu family/{f=$2} END{printf "%s, family %s", m, f}' \
         /proc/cpuinfo; printf '", "commit": "%s", "date": "%s' \
         $(git log -1 --format=%h -- bench/layouts.cpp) $(date -u +%F))";
  char line[512] = "";
  FILE* pipe = popen(script, "r");
  if (!pipe || !std::fgets(line, sizeof line, pipe) || pclose(pipe)) std::exit(1);
  return std::string("{\"cpu\": \"") + line + "\", \"compiler\": \"" + compiler +
         "\", \"isa\": \"avx2" + (has_vnni() ? ", avx512_vnni\"}" : "\"}");
}

}  // namespace

int main(int argc, char** argv) {
  const char* json = argc == 3 && !std::strcmp(argv[1], "--json") ? argv[2] : nullptr;
  Bench bench(256);
  for (const auto& [n, k] : {std::pair{6912L, 2560L}, std::pair{4096L, 1536L}})
    for (const long tokens : {1, 4, 16, 64, kMaxTokens}) {
      const Problem p = make_problem({n, k, tokens});
      std::vector<Contender> list;
      enter<Ternary2>(list, p);
      enter<Rows4>(list, p);
      enter<Rows>(list, p);
      if (tokens == 1) list.push_back({"read only", "none", read_only, Lines(1)});
      for (const bool dram : {true, false})
        for (const int threads : {1, 2}) bench.compare(list, p.s, threads, dram);
    }
  if (json)
    std::ofstream(json) << "{\"header\": " << header() << ",\n \"rows\": [" << bench.rows
                        << "\n]}\n";
}
