// Which stored order of 2-bit ternary codes multiplies fastest: the measurement behind ternary2.
//
// Owns: three orders of the same codes, W1.58A8 kernels written in good faith for each (GEMV and
// GEMM, AVX2; GEMV, AVX-512 VNNI), an exact check of every kernel, interleaved timings.
// Does not own: the product's format (csrc/packing/ternary2.h) or its kernels (csrc/kernels);
// nothing here is linked into them.
//
// Build: g++ -O3 -mavx2 -mfma -pthread bench/layouts.cpp -o layouts   (or clang++)
// Run:   ./layouts [--reps 31] [--mb 256] [--json OUT]
//
// All kernels: code = w + 1 in {0, 1, 2} is the unsigned operand of vpmaddubsw, sums stay in int16
// for 64 steps, y = codes . x (whoever calls subtracts sum(x)). Activations are laid out for a
// kernel outside its timing: a quantizer writes them in any order at once.
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

// ---- The layouts. A tile is 128 codes in 32 bytes; the tiles of a panel of kTileRows rows follow
// each other along K, panels along N. (row, col) tell which code a byte holds in its 2-bit field.

struct Ternary2 {  // 32 rows x 4 columns: a dword is 4 columns of one row, fields are row groups
  static constexpr const char* kName = "ternary2";
  static constexpr int kTileRows = 32, kTileCols = 4;
  static constexpr bool kFieldIsRow = true;
  static int row(int byte, int field) { return 8 * field + byte / 4; }
  static int col(int byte, int) { return byte % 4; }
};

struct Rows4 {  // 4 rows x 32 columns: as Ternary2, but fields are columns (ik_llama's IQ2_BN_R4)
  static constexpr const char* kName = "rows4";
  static constexpr int kTileRows = 4, kTileCols = 32;
  static constexpr bool kFieldIsRow = false;
  static int row(int byte, int) { return byte / 4 % 4; }
  static int col(int byte, int field) { return byte / 16 * 16 + 4 * field + byte % 4; }
};

struct Rows {  // 1 row x 128 columns, fields 32 columns apart (bitnet.cpp's I2_S)
  static constexpr const char* kName = "rows";
  static constexpr int kTileRows = 1, kTileCols = 128;
  static constexpr bool kFieldIsRow = false;
  static int row(int, int) { return 0; }
  static int col(int byte, int field) { return 32 * field + byte; }
};

// A decoded vector ("step") is one field of a tile: kVecRows rows x kStepCols columns.
template <class L>
constexpr int kVecRows = L::kFieldIsRow ? L::kTileRows / 4 : L::kTileRows;
template <class L>
constexpr int kStepCols = 32 / kVecRows<L>;
// Bytes of activations per step: one dword to broadcast, or the whole vector as the lanes want it.
template <class L>
constexpr int kActBytes = L::kFieldIsRow ? 4 : 32;

constexpr int kSteps = 64;       // maddubs steps an int16 sum holds: 64 * 2 * 2 * 128 = 32768
constexpr int kWide = 6;         // columns of the register tile: 2 x 6 sums, 2 codes, 2 temporaries
constexpr int kBlockVecs = 4;    // vectors of rows decoded at once: 4 x 64 steps = 8 KiB of L1
constexpr int kMaxTokens = 256;  // what the GEMM's scratch of sums is sized for

__m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
__m256i field(__m256i codes, int f) {
  return _mm256_and_si256(_mm256_srli_epi16(codes, 2 * f), _mm256_set1_epi8(3));
}
__m256i widen(__m256i sums) { return _mm256_madd_epi16(sums, _mm256_set1_epi16(1)); }

template <class L>
const uint8_t* panel(const uint8_t* w, int n, int k_size) {
  return w + static_cast<size_t>(n / L::kTileRows) * L::kTileRows * (k_size / 4);
}

// Stores the kVecRows results that the eight int32 lanes add up to.
template <class L>
void store_rows(__m256i v, int32_t* y) {
  if constexpr (kVecRows<L> == 8) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), v);
  } else {
    __m128i h = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    if constexpr (kVecRows<L> == 4) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(y), h);
    } else {
      h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4E));
      *y = _mm_cvtsi128_si32(_mm_add_epi32(h, _mm_shuffle_epi32(h, 0xB1)));
    }
  }
}

// ---- GEMV. Rows n0..n1, one activation column, kPrefetch bytes ahead (0: none).

// kTogether panels share each activation vector where fields are columns; where fields are rows,
// one panel already gives four independent sums and the activations cost one broadcast.
template <class L, int kPrefetch, int kTogether>
void gemv(const uint8_t* w, const int8_t* x, int k_size, int n0, int n1, int32_t* y) {
  constexpr int kSums = L::kFieldIsRow ? 4 : kTogether;
  constexpr int kPanels = L::kFieldIsRow ? 1 : kTogether;
  constexpr int kRun = L::kFieldIsRow ? kSteps : kSteps / 4;  // tiles before int16 may overflow
  const int tiles = k_size / L::kTileCols;
  const size_t panel_bytes = static_cast<size_t>(tiles) * 32;
  for (int n = n0; n < n1; n += kPanels * L::kTileRows) {
    const uint8_t* p = panel<L>(w, n, k_size);
    const int8_t* a = x;
    __m256i sum[kSums] = {};
    for (int t0 = 0; t0 < tiles; t0 += kRun) {
      __m256i acc[kSums] = {};
      for (int t = t0; t < std::min(t0 + kRun, tiles); t++, p += 32) {
        if constexpr (L::kFieldIsRow) {
          if (kPrefetch && t % 2 == 0)
            _mm_prefetch(reinterpret_cast<const char*>(p + kPrefetch), _MM_HINT_T0);
          int32_t dword;
          std::memcpy(&dword, a, 4);
          const __m256i c = load(p), act = _mm256_set1_epi32(dword);
          for (int f = 0; f < 4; f++)
            acc[f] = _mm256_add_epi16(acc[f], _mm256_maddubs_epi16(field(c, f), act));
          a += 4;
        } else {
          for (int r = 0; r < kPanels; r++) {
            const uint8_t* q = p + static_cast<size_t>(r) * panel_bytes;
            if (kPrefetch && t % 2 == 0)
              _mm_prefetch(reinterpret_cast<const char*>(q + kPrefetch), _MM_HINT_T0);
            const __m256i c = load(q);
            __m256i m[4];
            for (int f = 0; f < 4; f++) m[f] = _mm256_maddubs_epi16(field(c, f), load(a + 32 * f));
            acc[r] = _mm256_add_epi16(acc[r], _mm256_add_epi16(_mm256_add_epi16(m[0], m[1]),
                                                               _mm256_add_epi16(m[2], m[3])));
          }
          a += 128;
        }
      }
      for (int i = 0; i < kSums; i++) sum[i] = _mm256_add_epi32(sum[i], widen(acc[i]));
    }
    for (int i = 0; i < kSums; i++) store_rows<L>(sum[i], y + n + i * kVecRows<L>);
  }
}

// vpdpbusd sums in int32, so a field needs no shift: mask it in place and divide its sum by 1, 4,
// 16 or 64 at the end (exact; 2 * 64 * 128 * K stays below 2^31 up to K = 131071).
template <class L>
__attribute__((target("avx512f,avx512bw,avx512vnni"))) void gemv_vnni(const uint8_t* w,
                                                                      const int8_t* x, int k_size,
                                                                      int n0, int n1, int32_t* y) {
  const __m512i masks[4] = {_mm512_set1_epi8(3), _mm512_set1_epi8(12), _mm512_set1_epi8(48),
                            _mm512_set1_epi8(-64)};
  const __m512i halves = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
  const int pairs = k_size / L::kTileCols / 2;
  for (int n = n0; n < n1; n += L::kTileRows) {
    const uint8_t* p = panel<L>(w, n, k_size);
    const int8_t* a = x;
    __m512i acc[4] = {};
    for (int t = 0; t < pairs; t++, p += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(p + 2048), _MM_HINT_T0);
      const __m512i c = _mm512_loadu_si512(p);
      if constexpr (L::kFieldIsRow) {  // two tiles: one dword of activations for each half
        int64_t two;
        std::memcpy(&two, a, 8);
        const __m512i act = _mm512_permutexvar_epi32(halves, _mm512_set1_epi64(two));
        for (int f = 0; f < 4; f++)
          acc[f] = _mm512_dpbusd_epi32(acc[f], _mm512_and_si512(c, masks[f]), act);
        a += 8;
      } else {  // two tiles along K: field f meets 32 activations of the first, 32 of the second
        for (int f = 0; f < 4; f++) {
          const __m512i act = _mm512_inserti64x4(_mm512_castsi256_si512(load(a + 32 * f)),
                                                 load(a + 128 + 32 * f), 1);
          acc[f] = _mm512_dpbusd_epi32(acc[f], _mm512_and_si512(c, masks[f]), act);
        }
        a += 256;
      }
    }
    __m256i sum[4];
    for (int f = 0; f < 4; f++) {
      const __m512i v = _mm512_srav_epi32(acc[f], _mm512_set1_epi32(2 * f));
      sum[f] = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
    }
    if constexpr (L::kFieldIsRow) {
      for (int f = 0; f < 4; f++) store_rows<L>(sum[f], y + n + 8 * f);
    } else {
      store_rows<L>(_mm256_add_epi32(_mm256_add_epi32(sum[0], sum[1]),
                                     _mm256_add_epi32(sum[2], sum[3])),
                    y + n);
    }
  }
}

// What the memory gives: the same bytes, read and added.
void read_only(const uint8_t* w, const int8_t*, int k_size, int n0, int n1, int32_t* y) {
  __m256i s[4] = {};
  const uint8_t* end = panel<Rows>(w, n1, k_size);
  for (const uint8_t* p = panel<Rows>(w, n0, k_size); p < end; p += 128)
    for (int i = 0; i < 4; i++) s[i] = _mm256_add_epi8(s[i], load(p + 32 * i));
  store_rows<Ternary2>(_mm256_add_epi8(_mm256_add_epi8(s[0], s[1]), _mm256_add_epi8(s[2], s[3])),
                       y + n0);
}

// ---- GEMM: a block of weights is decoded into L1 once and meets every column from there.

// One asm statement per column keeps 12 sums, 2 codes and 2 temporaries in the 16 registers under
// any compiler (gcc 12 spills the same intrinsics).
template <bool kBroadcast>
__attribute__((always_inline)) inline void multiply_add(__m256i w0, __m256i w1, const int8_t* x,
                                                        __m256i& a0, __m256i& a1) {
  __m256i t, u;
  const char(&dword)[4] = *reinterpret_cast<const char(*)[4]>(x);
  const char(&vector)[32] = *reinterpret_cast<const char(*)[32]>(x);
#define BITNET_MULTIPLY_ADD(LOAD, FROM)                                                       \
  __asm__(LOAD                                                                                \
          " %6,%2\n\tvpmaddubsw %2,%4,%3\n\tvpmaddubsw %2,%5,%2\n\tvpaddw %3,%0,%0\n\tvpaddw " \
          "%2,%1,%1"                                                                          \
          : "+x"(a0), "+x"(a1), "=&x"(t), "=&x"(u)                                            \
          : "x"(w0), "x"(w1), "m"(FROM))
  if constexpr (kBroadcast)
    BITNET_MULTIPLY_ADD("vpbroadcastd", dword);
  else
    BITNET_MULTIPLY_ADD("vmovdqu", vector);
#undef BITNET_MULTIPLY_ADD
}

// 2 vectors of rows x sizeof...(J) columns over `steps` steps; `sums` holds [column][2] vectors.
template <int kAct, size_t... J>
__attribute__((noinline)) void register_tile(const __m256i* codes, const int8_t* x, int steps,
                                             bool first, __m256i* sums, std::index_sequence<J...>) {
  __m256i acc[sizeof...(J)][2] = {};
  for (int s = 0; s < steps; s++, codes += 2, x += kAct * sizeof...(J)) {
    const __m256i w0 = codes[0], w1 = codes[1];
    (multiply_add<kAct == 4>(w0, w1, x + kAct * J, acc[J][0], acc[J][1]), ...);
  }
  for (size_t i = 0; i < 2 * sizeof...(J); i++) {
    const __m256i wide = widen(acc[i / 2][i % 2]);
    sums[i] = first ? wide : _mm256_add_epi32(sums[i], wide);
  }
}

// Decodes `steps` steps from column k on of the block at row n into out[pair][step][2].
template <class L>
void decode(const uint8_t* w, int k_size, int n, int k, int steps, __m256i* out) {
  const auto at = [out](int vec, int s) -> __m256i& {
    return out[(vec / 2 * kSteps + s) * 2 + vec % 2];
  };
  const size_t skip = static_cast<size_t>(k / L::kTileCols) * 32;
  if constexpr (L::kFieldIsRow) {
    const uint8_t* p = panel<L>(w, n, k_size) + skip;
    for (int s = 0; s < steps; s++) {
      const __m256i c = load(p + 32 * s);
      for (int f = 0; f < 4; f++) at(f, s) = field(c, f);
    }
  } else {
    for (int vec = 0; vec < kBlockVecs; vec++) {
      const uint8_t* p = panel<L>(w, n + vec * L::kTileRows, k_size) + skip;
      for (int s = 0; s < steps; s++) at(vec, s) = field(load(p + s / 4 * 32), s % 4);
    }
  }
}

template <class L>
void gemm(const uint8_t* w, const int8_t* x, int k_size, int n_size, int tokens, int n0, int n1,
          int32_t* y) {
  alignas(64) static thread_local __m256i codes[kBlockVecs * kSteps];
  alignas(64) static thread_local __m256i sums[kMaxTokens * kBlockVecs];
  const size_t column_bytes = static_cast<size_t>(k_size / kStepCols<L>)*kActBytes<L>;
  for (int n = n0; n < n1; n += kBlockVecs * kVecRows<L>) {
    for (int k = 0; k < k_size; k += kSteps * kStepCols<L>) {
      const int step = k / kStepCols<L>;
      const int steps = std::min(kSteps, (k_size - k) / kStepCols<L>);
      decode<L>(w, k_size, n, k, steps, codes);
      for (int t = 0; t < tokens; t += kWide) {
        const int width = std::min(kWide, tokens - t);
        const int8_t* a = x + t * column_bytes + static_cast<size_t>(step) * width * kActBytes<L>;
        for (int pair = 0; pair < kBlockVecs / 2; pair++) {
          const __m256i* c = codes + pair * kSteps * 2;
          __m256i* s = sums + t * kBlockVecs + pair * width * 2;
          if (width == kWide)
            register_tile<kActBytes<L>>(c, a, steps, k == 0, s, std::make_index_sequence<kWide>());
          else  // every measured number of tokens leaves 4
            register_tile<kActBytes<L>>(c, a, steps, k == 0, s, std::make_index_sequence<4>());
        }
      }
    }
    for (int t = 0; t < tokens; t++) {
      const int t0 = t / kWide * kWide, width = std::min(kWide, tokens - t0);
      for (int vec = 0; vec < kBlockVecs; vec++)
        store_rows<L>(sums[t0 * kBlockVecs + (vec / 2 * width + t - t0) * 2 + vec % 2],
                      y + static_cast<size_t>(t) * n_size + n + vec * kVecRows<L>);
    }
  }
}

// ---- Operands.

struct Shape {
  int n, k;
};

template <class L>
std::vector<uint8_t> pack(const std::vector<uint8_t>& codes, Shape s) {
  std::vector<uint8_t> out(static_cast<size_t>(s.n) * s.k / 4);
  size_t at = 0;
  for (int n = 0; n < s.n; n += L::kTileRows)
    for (int k = 0; k < s.k; k += L::kTileCols)
      for (int b = 0; b < 32; b++, at++)
        for (int f = 0; f < 4; f++)
          out[at] |= static_cast<uint8_t>(
              codes[static_cast<size_t>(n + L::row(b, f)) * s.k + k + L::col(b, f)] << (2 * f));
  return out;
}

// x: int8 [tokens][K] -> [token tile][step][column of the tile][kActBytes].
template <class L>
std::vector<int8_t> arrange(const std::vector<int8_t>& x, int k_size, int tokens) {
  std::vector<int8_t> out;
  for (int t0 = 0; t0 < tokens; t0 += kWide)
    for (int k = 0; k < k_size; k += L::kTileCols)
      for (int f = 0; f < (L::kFieldIsRow ? 1 : 4); f++)
        for (int t = t0; t < std::min(t0 + kWide, tokens); t++)
          for (int b = 0; b < kActBytes<L>; b++)
            out.push_back(x[static_cast<size_t>(t) * k_size + k + L::col(b, f)]);
  return out;
}

// ---- Timing.

using Kernel = std::function<void(const uint8_t* w, int n0, int n1, int32_t* y)>;

struct Contender {
  std::string name, layout;
  Kernel run;
};

struct Row {
  std::string name, layout, phase, shape, source, unit;
  int threads, n;
  double value, ratio, spread;
};

double median(std::vector<double> v, double at = 0.5) {
  std::sort(v.begin(), v.end());
  return v[static_cast<size_t>(at * static_cast<double>(v.size() - 1) + 0.5)];
}

class Bench {
 public:
  // kSlack: room to align the base, and for prefetches past the end to stay in the buffer.
  Bench(int reps, size_t store_bytes) : reps_(reps), store_(store_bytes + kSlack) {
    std::mt19937 random(1);  // codes 0 and 1 will do: no kernel's time depends on them
    for (auto& b : store_) b = static_cast<uint8_t>(random() & 0x55);
    base_ = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(store_.data()) + 63) &
                                       ~uintptr_t{63});
  }

  // Runs the contenders in turn, another one first each time, so that a busy moment hits them all.
  void compare(const std::vector<Contender>& list, const std::string& phase, Shape s, int tokens,
               int threads, bool dram) {
    const size_t bytes = static_cast<size_t>(s.n) * s.k / 4;
    const size_t copies = dram ? (store_.size() - kSlack) / bytes : 1;
    std::vector<int32_t> y(static_cast<size_t>(s.n) * tokens + 8);
    const auto seconds = [&](const Contender& c, int passes) {
      const auto work = [&](int t) {
        for (int i = 0; i < passes; i++)
          c.run(base_ + (cursor_ + i) % copies * bytes, s.n / 32 * t / threads * 32,
                s.n / 32 * (t + 1) / threads * 32, y.data());
      };
      const auto start = std::chrono::steady_clock::now();
      std::vector<std::thread> others;
      for (int t = 1; t < threads; t++) others.emplace_back(work, t);
      work(0);
      for (auto& o : others) o.join();
      const std::chrono::duration<double> d = std::chrono::steady_clock::now() - start;
      cursor_ += passes;  // the copies just read are met again only after all the others
      return d.count() / passes;
    };
    seconds(list[0], 1);
    const int passes = std::max(1, static_cast<int>(6e-3 / seconds(list[0], 2)));
    std::vector<std::vector<double>> rate(list.size(), std::vector<double>(reps_));
    const double amount = tokens == 1 ? bytes / 1e9 : 4.0 * bytes * tokens / 1e9;
    for (int r = 0; r < reps_; r++)
      for (size_t i = 0; i < list.size(); i++) {
        const size_t which = (i + r) % list.size();
        rate[which][r] = amount / seconds(list[which], passes);
      }
    for (size_t i = 0; i < list.size(); i++) {
      size_t ref = 0;  // ternary2 under the same name; the first one for what has no such rival
      for (size_t j = 0; j < list.size(); j++)
        if (list[j].name == list[i].name && list[j].layout == Ternary2::kName) ref = j;
      std::vector<double> ratio(reps_);
      for (int r = 0; r < reps_; r++) ratio[r] = rate[i][r] / rate[ref][r];
      const double mid = median(rate[i]);
      rows_.push_back({list[i].name, list[i].layout, phase,
                       std::to_string(s.n) + "x" + std::to_string(s.k), dram ? "DRAM" : "L3",
                       tokens == 1 ? "GB/s" : "GMAC/s", threads, reps_, mid, median(ratio),
                       (median(rate[i], 0.75) - median(rate[i], 0.25)) / mid});
      const Row& o = rows_.back();
      std::printf("%-10s %-4s %dT %-5s %-22s %-9s %7.1f %-6s x%.2f (iqr %.0f%%)\n", o.shape.c_str(),
                  o.source.c_str(), threads, o.phase.c_str(), o.name.c_str(), o.layout.c_str(),
                  o.value, o.unit.c_str(), o.ratio, 100 * o.spread);
    }
  }

  void write_json(const char* path) const;

 private:
  static constexpr size_t kSlack = 8192;
  int reps_;
  size_t cursor_ = 0;
  std::vector<uint8_t> store_;
  uint8_t* base_;
  std::vector<Row> rows_;
};

std::string first_line(const char* command) {
  char line[256] = "";
  if (FILE* pipe = popen(command, "r")) {
    if (!std::fgets(line, sizeof line, pipe)) line[0] = 0;
    pclose(pipe);
  }
  line[std::strcspn(line, "\n")] = 0;
  return line;
}

bool has_vnni() {
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni");
}

void Bench::write_json(const char* path) const {
  std::ofstream out(path);
  char date[16];
  const std::time_t now = std::time(nullptr);
  std::strftime(date, sizeof date, "%Y-%m-%d", std::gmtime(&now));
  out << "{\"header\": {\"commit\": \"" << first_line("git describe --always --dirty")
      << "\", \"cpu\": \""
      << first_line(
             "awk -F': *' '/^model name/{m=$2} /^cpu family/{f=$2} /^model\\t/{o=$2} "
             "/^$/{exit} END{print m\", family \"f\" model \"o}' /proc/cpuinfo")
      << "\", \"compiler\": \""
#ifdef __clang__
      << "clang "
#else
      << "gcc "
#endif
      << __VERSION__ << "\", \"isa\": \"avx2" << (has_vnni() ? "+avx512_vnni" : "")
      << "\", \"date\": \"" << date << "\"},\n \"rows\": [";
  const char* comma = "\n";
  for (const Row& r : rows_) {
    out << comma << "  {\"name\": \"" << r.name << "\", \"layout\": \"" << r.layout
        << "\", \"phase\": \"" << r.phase << "\", \"shape\": \"" << r.shape
        << "\", \"threads\": " << r.threads << ", \"source\": \"" << r.source
        << "\", \"value\": " << r.value << ", \"unit\": \"" << r.unit << "\", \"ratio\": " << r.ratio
        << ", \"n\": " << r.n << ", \"spread\": " << r.spread << "}";
    comma = ",\n";
  }
  out << "\n]}\n";
}

// ---- The contest.

struct Problem {
  Shape s;
  int tokens;
  std::vector<uint8_t> codes;     // [N][K]
  std::vector<int8_t> x;          // [tokens][K]
  std::vector<int32_t> expected;  // [tokens][N], codes . x
};

// Random, but for the extremes that meet in row 0 of token 0: an int16 sum of exactly -32768.
Problem make_problem(Shape s, int tokens) {
  Problem p{s, tokens, {}, {}, {}};
  std::mt19937 random(2);
  p.codes.resize(static_cast<size_t>(s.n) * s.k);
  p.x.resize(static_cast<size_t>(tokens) * s.k);
  p.expected.resize(static_cast<size_t>(tokens) * s.n);
  for (auto& c : p.codes) c = static_cast<uint8_t>(random() % 3);
  for (auto& v : p.x) v = static_cast<int8_t>(random());
  std::fill_n(p.codes.begin(), s.k, uint8_t{2});
  std::fill_n(p.x.begin(), s.k, int8_t{-128});
  for (int t = 0; t < tokens; t++)
    for (int n = 0; n < s.n; n++) {
      const uint8_t* c = &p.codes[static_cast<size_t>(n) * s.k];
      const int8_t* x = &p.x[static_cast<size_t>(t) * s.k];
      int32_t sum = 0;
      for (int k = 0; k < s.k; k++) sum += c[k] * x[k];
      p.expected[static_cast<size_t>(t) * s.n + n] = sum;
    }
  return p;
}

// Enters a kernel(w, x, n0, n1, y) once it has proved exact.
template <class L, class F>
void enter(std::vector<Contender>& list, const Problem& p, const std::string& name, F kernel) {
  const auto run = [x = arrange<L>(p.x, p.s.k, p.tokens), kernel](
                       const uint8_t* w, int n0, int n1, int32_t* y) {
    kernel(w, x.data(), n0, n1, y);
  };
  std::vector<int32_t> y(p.expected.size());
  run(pack<L>(p.codes, p.s).data(), 0, p.s.n, y.data());
  if (y != p.expected) {
    std::fprintf(stderr, "%s %s: wrong product\n", name.c_str(), L::kName);
    std::exit(1);
  }
  list.push_back({name, L::kName, run});
}

template <class L, int kTogether>
void enter_gemv(std::vector<Contender>& list, const Problem& p) {
  const auto with = [k = p.s.k](auto f) {
    return [f, k](const uint8_t* w, const int8_t* x, int n0, int n1, int32_t* y) {
      f(w, x, k, n0, n1, y);
    };
  };
  enter<L>(list, p, "avx2", with(gemv<L, 0, kTogether>));
  enter<L>(list, p, "avx2 prefetch 2K", with(gemv<L, 2048, kTogether>));
  if (!std::is_same_v<L, Rows4> && has_vnni())
    enter<L>(list, p, "avx512_vnni prefetch 2K", with(gemv_vnni<L>));
}

template <class L>
void enter_gemm(std::vector<Contender>& list, const Problem& p) {
  enter<L>(list, p, "avx2",
           [s = p.s, tokens = p.tokens](const uint8_t* w, const int8_t* x, int n0, int n1,
                                        int32_t* y) { gemm<L>(w, x, s.k, s.n, tokens, n0, n1, y); });
}

}  // namespace

int main(int argc, char** argv) {
  int reps = 31;
  size_t mb = 256;
  const char* json = nullptr;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!std::strcmp(argv[i], "--reps")) reps = std::atoi(argv[i + 1]);
    if (!std::strcmp(argv[i], "--mb")) mb = static_cast<size_t>(std::atoi(argv[i + 1]));
    if (!std::strcmp(argv[i], "--json")) json = argv[i + 1];
  }
  Bench bench(reps, mb << 20);
  for (const Shape s : {Shape{6912, 2560}, Shape{4096, 1536}})
    for (const int tokens : {1, 4, 16, 64, kMaxTokens}) {
      const Problem p = make_problem(s, tokens);
      std::vector<Contender> list;
      if (tokens == 1) {
        enter_gemv<Ternary2, 1>(list, p);
        enter_gemv<Rows4, 1>(list, p);
        enter_gemv<Rows4, 2>(list, p);
        enter_gemv<Rows4, 4>(list, p);
        enter_gemv<Rows, 1>(list, p);
        enter_gemv<Rows, 2>(list, p);
        enter_gemv<Rows, 4>(list, p);
        list.push_back({"read only", "-", [k = s.k](const uint8_t* w, int n0, int n1, int32_t* y) {
                          read_only(w, nullptr, k, n0, n1, y);
                        }});
      } else {
        enter_gemm<Ternary2>(list, p);
        enter_gemm<Rows4>(list, p);
        enter_gemm<Rows>(list, p);
      }
      const std::string phase = tokens == 1 ? "gemv" : "gemm T=" + std::to_string(tokens);
      for (const bool dram : {true, false})
        for (const int threads : {1, 2}) bench.compare(list, phase, s, tokens, threads, dram);
    }
  if (json) bench.write_json(json);
}
