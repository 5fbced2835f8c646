// Owns: the kernel table in plain C++, for every machine: the oracle of the others, and what fills
// their empty slots. No intrinsics; loops over eight lanes that a compiler can vectorize.
#include <math.h>
#include <string.h>

#include "base/float16.h"
#include "kernels/attend_inl.h"
#include "kernels/dense_inl.h"
#include "kernels/float_inl.h"
#include "kernels/kernel_table.h"
#include "kernels/logits_inl.h"
#include "kernels/packed_inl.h"
#include "kernels/store_kv_inl.h"
#include "packing/int6.h"
#include "packing/trits5.h"

namespace bitnet {
namespace {

struct Generic {
  static constexpr int kWidth = 8, kRegisters = 16;
  struct F {
    float lane[kLanes];
  };
  struct I {
    std::int32_t lane[kLanes];
  };

  template <class V, class Fn>
  static V each(Fn fn) {
    V v;
    for (int i = 0; i < kLanes; ++i) v.lane[i] = fn(i);
    return v;
  }

  static F load(const float* p) {
    return each<F>([=](int i) { return p[i]; });
  }
  static F load(const F16* p) {
    return each<F>([=](int i) { return f16_to_float(p[i].bits); });
  }
  static F load(const BF16* p) {
    return each<F>([=](int i) { return bf16_to_float(p[i].bits); });
  }
  static F load(const std::int8_t* p) {
    return each<F>([=](int i) { return static_cast<float>(p[i]); });
  }
  static void store(float* p, F v) {
    for (int i = 0; i < kLanes; ++i) p[i] = v.lane[i];
  }
  static void store(F16* p, F v) {
    for (int i = 0; i < kLanes; ++i) p[i].bits = float_to_f16(v.lane[i]);
  }
  static F set(float v) {
    return each<F>([=](int) { return v; });
  }
  static F add(F a, F b) {
    return each<F>([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static F sub(F a, F b) {
    return each<F>([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static F mul(F a, F b) {
    return each<F>([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static F div(F a, F b) {
    return each<F>([&](int i) { return a.lane[i] / b.lane[i]; });
  }
  static F min(F a, F b) {
    return each<F>([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static F max(F a, F b) {
    return each<F>([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static F sqrt(F a) {
    return each<F>([&](int i) { return sqrtf(a.lane[i]); });
  }
  static F fma(F a, F b, F c) {  // two roundings: a fused one is slow in software
    return each<F>([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
  }
  static float sum(F v) {
    const float* x = v.lane;
    return ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7]));
  }
  static float largest(F v) {
    float most = v.lane[0];
    for (const float x : v.lane) most = x > most ? x : most;
    return most;
  }

  static I load(const std::int32_t* p) {
    return each<I>([=](int i) { return p[i]; });
  }
  static void store(std::int32_t* p, I v) {
    for (int i = 0; i < kLanes; ++i) p[i] = v.lane[i];
  }
  static I set_int(std::int32_t v) {
    return each<I>([=](int) { return v; });
  }
  static I add(I a, I b) {
    return each<I>([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static I sub(I a, I b) {
    return each<I>([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static std::int32_t sum(I v) {
    std::int32_t total = 0;
    for (const std::int32_t x : v.lane) total += x;
    return total;
  }
  static I to_int(F v) {  // what does not fit an int32, NaN among it, becomes the lowest one
    return each<I>([&](int i) {
      const float x = rintf(v.lane[i]);
      const bool fits = x >= -2147483648.0f && x < 2147483648.0f;
      return fits ? static_cast<std::int32_t>(x) : INT32_MIN;
    });
  }
  static F to_float(I v) {
    return each<F>([&](int i) { return static_cast<float>(v.lane[i]); });
  }
  static I halve(I v) {
    return each<I>([&](int i) { return v.lane[i] >> 1; });
  }
  static F exp2(I v) {
    return each<F>(
        [&](int i) { return bits_to_float(static_cast<std::uint32_t>(v.lane[i] + 127) << 23); });
  }
  static I clip_int8(I v) {
    return each<I>([&](int i) {
      const std::int32_t x = v.lane[i] < 127 ? v.lane[i] : 127;
      return x > -128 ? x : -128;
    });
  }
  static void store_int8(std::int8_t* p, I v) {
    for (int i = 0; i < kLanes; ++i) p[i] = static_cast<std::int8_t>(v.lane[i]);
  }
  static F keep(F v) { return v; }
  static void prefetch(const void*) {}
};

// What both formats share: a step is one tile of 32 bytes; byte 4 * row + column of a vector meets
// activation `column`.
struct OneTile {
  using S = Generic;
  using Store = PlainPanels;
  struct Bytes {
    std::uint8_t byte[32];
  };
  struct Acts {
    std::int8_t act[32];  // four activations, for every row
  };
  using Tiles = Bytes;
  using Vec = Bytes;
  static constexpr std::int64_t kTiles = 1, kVecBytes = 32;
  static constexpr int kTileVecs = 1, kTileTokens = 4, kGemvChains = 1, kActTokens = 1;
  static constexpr std::int64_t kTileBytes = 32, kGroup = kGroupSize;
  static constexpr bool kScalesByPanel = false;

  static Tiles load(const std::uint8_t* p) {
    Tiles tiles;
    for (int i = 0; i < 32; ++i) tiles.byte[i] = p[i];
    return tiles;
  }
  static Vec load_vec(const std::uint8_t* p) { return load(p); }
  static void store_vec(std::uint8_t* p, const Vec& v) {
    for (int i = 0; i < 32; ++i) p[i] = v.byte[i];
  }
  static Acts acts(const std::int8_t* p) {
    Acts acts;
    for (int row = 0; row < 8; ++row) memcpy(acts.act + 4 * row, p, 4);
    return acts;
  }
  template <class T>
  static Generic::I add_columns(const T* sum) {
    return Generic::each<Generic::I>(
        [=](int i) { return sum[4 * i] + sum[4 * i + 1] + sum[4 * i + 2] + sum[4 * i + 3]; });
  }
};

// The product that needs no multiplication, as BitNet b1.58 means it: a code 2 (weight +1) adds the
// activation, a code 0 (weight -1) subtracts it, a code 1 (weight 0) skips it.
struct Ternary2 : OneTile {
  struct Sum {
    std::int16_t at[32];
  };
  static constexpr int kVecs = 4, kOffset = 0;
  static constexpr std::int64_t kMaxSteps = 254;  // of at most 128 each; even

  static Vec vec(const Tiles& tiles, int v) {
    Vec codes;
    for (int i = 0; i < 32; ++i)
      codes.byte[i] = static_cast<std::uint8_t>(tiles.byte[i] >> (2 * v) & 3);
    return codes;
  }
  static Sum zero() { return {}; }
  // As masks, all ones where the code is 2 or 0, so that compilers vectorize it. gcc does; clang 14
  // needs to be told in vectors, of which gcc 12 makes scalar code.
  static Sum add_products(const Sum& sum, const Vec& codes, const Acts& acts) {
    Sum result;
#if defined(__clang__)
    using Int8x32 = std::int8_t __attribute__((vector_size(32)));
    using Int16x32 = std::int16_t __attribute__((vector_size(64)));
    Int8x32 act, code;
    Int16x32 total;
    memcpy(&act, acts.act, sizeof act);
    memcpy(&code, codes.byte, sizeof code);
    memcpy(&total, sum.at, sizeof total);
    total += __builtin_convertvector(act & (code == 2), Int16x32);
    total -= __builtin_convertvector(act & (code == 0), Int16x32);
    memcpy(result.at, &total, sizeof total);
#else
    for (int i = 0; i < 32; ++i) {
      const std::int16_t act = acts.act[i], code = codes.byte[i];
      const auto plus = static_cast<std::int16_t>(-(code >> 1));
      const auto minus = static_cast<std::int16_t>((code - 1) >> 15);
      result.at[i] = static_cast<std::int16_t>(sum.at[i] + (act & plus) - (act & minus));
    }
#endif
    return result;
  }
  static Generic::I flush(const Sum& sum) { return add_columns(sum.at); }

  static constexpr std::int64_t kGemvSteps = kMaxSteps;
  static Vec gemv_vec(const Tiles& tiles, int v) { return vec(tiles, v); }
  static Generic::I gemv_flush(const Sum& sum, int) { return flush(sum); }
};

struct Int8 : OneTile {
  struct Sum {
    std::int32_t at[32];
  };
  static constexpr int kVecs = 1, kOffset = 0;
  static constexpr std::int64_t kMaxSteps = std::int64_t{1} << 40;  // no limit of its own

  static Vec vec(const Tiles& tiles, int) { return tiles; }
  static Sum zero() { return {}; }
  static Sum add_products(const Sum& sum, const Vec& codes, const Acts& acts) {
    Sum result;
    for (int i = 0; i < 32; ++i)
      result.at[i] = sum.at[i] + static_cast<std::int8_t>(codes.byte[i]) * acts.act[i];
    return result;
  }
  static Generic::I flush(const Sum& sum) { return add_columns(sum.at); }

  static constexpr std::int64_t kGemvSteps = kMaxSteps;
  static Vec gemv_vec(const Tiles& tiles, int v) { return vec(tiles, v); }
  static Generic::I gemv_flush(const Sum& sum, int) { return flush(sum); }
};

// Codes 0..63, a sum of at most 63 * 128 per byte and step.
struct Int6 : Int8 {
  struct Tiles {
    Bytes run[3];
  };
  static constexpr int kVecs = 4, kOffset = int6::kZeroCode;
  using Store = PlainTiles<int6::kTileBytes>;
  static constexpr std::int64_t kTileBytes = int6::kTileBytes, kGroup = int6::kGroup;
  static constexpr bool kScalesByPanel = true;

  static Tiles load(const std::uint8_t* p) {
    return {{OneTile::load(p), OneTile::load(p + 32), OneTile::load(p + 64)}};
  }
  static Vec load_vec(const std::uint8_t* p) { return OneTile::load(p); }
  static Vec vec(const Tiles& tiles, int v) {
    Vec codes;
    const Bytes *a = tiles.run, *b = a + 1, *c = a + 2;
    for (int i = 0; i < 32; ++i)
      codes.byte[i] = static_cast<std::uint8_t>(
          v < 3 ? a[v].byte[i] & 63
                : (a->byte[i] >> 6) << 4 | (b->byte[i] >> 6) << 2 | c->byte[i] >> 6);
    return codes;
  }
  static Vec gemv_vec(const Tiles& tiles, int v) { return vec(tiles, v); }
  static Vec offset_vec() {
    Vec codes;
    for (std::uint8_t& byte : codes.byte) byte = kOffset;
    return codes;
  }
};

}  // namespace

extern const KernelTable kGenericTable;
const KernelTable kGenericTable = {
    "generic",
    {dense_linear<Generic, float>, dense_linear<Generic, F16>, dense_linear<Generic, BF16>,
     packed_linear<Int8>, packed_linear<Ternary2>, nullptr, packed_linear<Int6>},
    {nullptr, nullptr, nullptr, packed_dot<Int8>, packed_dot<Ternary2>, nullptr, packed_dot<Int6>},
    trits5::expand,
    quantize_act<Generic>,
    rms_norm<Generic>,
    rope<Generic>,
    gated_activation<Generic>,
    add<Generic>,
    store_kv<Generic>,
    attend_block<Generic>,
    attend_merge<Generic>,
    attend_finish<Generic>,
    block_maxima<Generic>,
    sum_exp<Generic>,
};

}  // namespace bitnet
