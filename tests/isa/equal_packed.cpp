// Owns: the proof that products with int8 activations are the generic table's, bit for bit: the
// int32 sums, and the floats of every scale kind.
//
// A new packed format is one line in kPacked, and one function that makes valid bytes of it.
#include <cmath>
#include <cstring>

#include "arrays.h"
#include "base/float16.h"
#include "equal.h"
#include "report.h"

namespace bitnet::test {
namespace {

enum class Values { kRandom, kLowest, kHighest };

std::uint8_t ternary2_byte(Random& random, Values values) {
  if (values == Values::kLowest) return 0x00;
  if (values == Values::kHighest) return 0xAA;
  int byte = 0;
  for (int field = 0; field < 4; ++field) byte = 4 * byte + random.between(0, 2);
  return static_cast<std::uint8_t>(byte);
}

std::uint8_t int8_byte(Random& random, Values values) {
  if (values == Values::kLowest) return static_cast<std::uint8_t>(-127);
  if (values == Values::kHighest) return 127;
  return static_cast<std::uint8_t>(random.between(-127, 127));
}

struct Packed {
  Format format;
  DotFn KernelTable::* dot;
  std::uint8_t (*byte)(Random&, Values);
};
constexpr Packed kPacked[] = {
    {Format::kTernary2, &KernelTable::ternary_dot, ternary2_byte},
    {Format::kInt8, &KernelTable::int8_dot, int8_byte},
};

struct Scale {
  ScaleKind kind;
  bool f16;
};
constexpr Scale kScales[] = {{ScaleKind::kTensor, false},
                             {ScaleKind::kRow, false},
                             {ScaleKind::kGroup, false},
                             {ScaleKind::kGroup, true}};

// Every remainder of every register tile, and past a block of tokens.
constexpr std::int64_t kTokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 64, 65, 97};
constexpr std::int64_t kMostTokens = 97;

// A weight, its activations, and their product by the generic table.
struct Case {
  const FormatInfo& info;
  std::int64_t n, k, groups, stride;
  Array<std::uint8_t> weight;
  Array<std::int8_t> q;
  Array<float> act_scale;
  Array<std::int32_t> group_sum;

  Case(const Packed& packed, std::int64_t rows, std::int64_t columns, Values codes, Values acts)
      : info(format_info(packed.format)),
        n(rows),
        k(columns),
        groups(ceil_div(k, kGroupSize)),
        stride(round_up(k, 8)),
        weight(code_bytes(info, n, k)),
        q(kMostTokens * stride),
        act_scale(kMostTokens),
        group_sum(kMostTokens * groups) {
    Random random(static_cast<std::uint64_t>(n * 10000 + k));
    for (std::uint8_t& byte : weight) byte = packed.byte(random, codes);
    for (std::int64_t t = 0; t < kMostTokens; ++t) {
      act_scale[t] = random.uniform(0.001f, 3.0f);
      for (std::int64_t i = 0; i < k; ++i) {
        const int act = acts == Values::kLowest    ? -128
                        : acts == Values::kHighest ? 127
                                                   : random.between(-128, 127);
        q[t * stride + i] = static_cast<std::int8_t>(act);
        group_sum[t * groups + i / kGroupSize] += act;
      }
    }
  }

  Int8Acts acts() const { return {q.data(), stride, act_scale.data(), group_sum.data(), groups}; }
  std::int64_t panels() const { return padded_rows(info, n) / info.panel_rows; }
};

// Compares the first `tokens` rows of two outputs [.., stride]; what lies past n must be untouched.
template <class T>
void compare(Check& check, const std::string& where, const Array<T>& got, const Array<T>& expected,
             std::int64_t tokens, std::int64_t n, std::int64_t stride) {
  for (std::int64_t i = 0; i < tokens * stride; ++i) {
    const T want = i % stride < n ? expected[i] : T{77};
    check.expect(std::memcmp(&got[i], &want, sizeof want) == 0, where, i,
                 static_cast<double>(got[i]), static_cast<double>(want));
  }
}

void compare_dot(const KernelTable& table, const KernelTable& generic, const Packed& packed,
                 const Case& c, const std::string& values, Check& check) {
  const std::int64_t stride = c.n + 1;
  const auto run = [&](const KernelTable& by, std::int64_t tokens, Array<std::int32_t>& out) {
    for (std::int32_t& value : out) value = 77;
    (by.*packed.dot)(c.weight.data(), c.n, c.k, c.acts(), tokens, 0, c.panels(), out.data(),
                     stride);
  };
  Array<std::int32_t> expected(kMostTokens * stride), got(kMostTokens * stride);
  run(generic, kMostTokens, expected);
  for (const std::int64_t tokens : kTokens) {
    run(table, tokens, got);
    compare(check,
            text("%s, n %lld, k %lld, %lld tokens", values.c_str(), static_cast<long long>(c.n),
                 static_cast<long long>(c.k), static_cast<long long>(tokens)),
            got, expected, tokens, c.n, stride);
  }
}

void compare_linear(const KernelTable& table, const KernelTable& generic, const Case& c,
                    Scale scale, Check& check) {
  const std::int64_t stride = c.n + 1, count = scale_count(c.info, scale.kind, c.n, c.k);
  Array<float> values(count);
  Array<std::uint16_t> halves(count);
  Random random(5);
  for (std::int64_t i = 0; i < count; ++i) {
    values[i] = random.uniform(0.01f, 2.0f);
    halves[i] = float_to_f16(values[i]);
  }
  const auto run = [&](const KernelTable& by, std::int64_t tokens, Array<float>& out) {
    for (float& value : out) value = 77;
    LinearArgs args{};
    args.weight = c.weight.data();
    args.scale = scale.f16 ? static_cast<const void*>(halves.data()) : values.data();
    args.scale_kind = scale.kind;
    args.scale_is_f16 = scale.f16;
    args.n = c.n;
    args.k = c.k;
    args.tokens = tokens;
    args.acts = c.acts();
    args.out = out.data();
    args.out_stride = stride;
    const LinearFn linear = by.linear[static_cast<int>(c.info.format)];
    // Two calls, as two threads would make them.
    const std::int64_t half = c.panels() / 2;
    linear(args, 0, half);
    linear(args, half, c.panels());
  };
  Array<float> expected(kMostTokens * stride), got(kMostTokens * stride);
  run(generic, kMostTokens, expected);
  for (const std::int64_t tokens : kTokens) {
    run(table, tokens, got);
    compare(check,
            text("n %lld, k %lld, %lld tokens", static_cast<long long>(c.n),
                 static_cast<long long>(c.k), static_cast<long long>(tokens)),
            got, expected, tokens, c.n, stride);
  }
}

}  // namespace

void compare_packed(const Tables& tables) {
  const KernelTable &table = tables.table, &generic = tables.generic;
  for (const Packed& packed : kPacked) {
    const FormatInfo& info = format_info(packed.format);
    const std::string name = std::string(table.name) + " " + info.name;
    if (tables.owns(packed.dot)) {
      Check check(name + " dot", "equal");
      for (const std::int64_t n : {1, 31, 32, 33, 65})
        for (const std::int64_t k : {4, 8, 12, 36, 128, 132, 256, 260, 1000, 2560})
          if (k < 1000 || n % 32 == 1)
            compare_dot(table, generic, packed,
                        Case(packed, n, k, Values::kRandom, Values::kRandom), "any values", check);
      for (const Values codes : {Values::kLowest, Values::kHighest})
        for (const Values acts : {Values::kLowest, Values::kHighest})
          for (const std::int64_t k : {36, 256, 2560})
            compare_dot(table, generic, packed, Case(packed, 33, k, codes, acts), "extremes",
                        check);
    }
    for (const Scale scale : kScales) {
      if (!allows_scale(info, scale.kind) || !tables.owns_linear(packed.format)) continue;
      Check check(
          name + " linear, scale " + scale_kind_name(scale.kind) + (scale.f16 ? " f16" : ""),
          "equal");
      for (const std::int64_t n : {1, 32, 65})
        for (const std::int64_t k : {4, 36, 128, 132, 256, 1000})
          compare_linear(table, generic, Case(packed, n, k, Values::kRandom, Values::kRandom),
                         scale, check);
    }
  }
  for (int i = 0; i < kNumFormats; ++i) {
    const FormatInfo& info = format_info(static_cast<Format>(i));
    bool listed = !info.packed;
    for (const Packed& packed : kPacked) listed = listed || packed.format == info.format;
    if (!listed) Check(info.name, "").fail("no line in kPacked (tests/isa/equal_packed.cpp)");
  }
}

}  // namespace bitnet::test
