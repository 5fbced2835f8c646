// Owns: the proof that products with int8 activations are the generic table's, bit for bit: the
// int32 sums, and the floats of every scale kind.
//
// A new packed format is one line in kPacked.
#include <cstring>

#include "arrays.h"
#include "base/float16.h"
#include "equal.h"
#include "packing/int6.h"
#include "packing/int8.h"
#include "packing/ternary2.h"
#include "packing/trits5.h"
#include "report.h"

namespace bitnet::test {
namespace {

enum class Values { kRandom, kLowest, kHighest };

// Weights of [-most, most]. What the generic table multiplies: the same weight, or another format
// that says the same where it has no product of that one.
struct Packed {
  Format format;
  int most;
  void (*pack)(const std::int8_t* t, std::int64_t n, std::int64_t k, std::uint8_t* packed);
  Format oracle;
  void (*pack_oracle)(const std::int8_t* t, std::int64_t n, std::int64_t k, std::uint8_t* packed);
};
constexpr Packed kPacked[] = {
    {Format::kInt8, 127, int8::pack, Format::kInt8, int8::pack},
    {Format::kTernary2, 1, ternary2::pack, Format::kTernary2, ternary2::pack},
    {Format::kTrits5, 1, trits5::pack, Format::kTernary2, ternary2::pack},
    {Format::kInt6, 31, int6::pack, Format::kInt6, int6::pack},
};

std::int8_t pick(Random& random, Values values, int lowest, int highest) {
  const int value = values == Values::kLowest    ? lowest
                    : values == Values::kHighest ? highest
                                                 : random.between(lowest, highest);
  return static_cast<std::int8_t>(value);
}

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

// A weight, in its format and in the oracle's, and activations.
struct Case {
  const Packed& packed;
  const FormatInfo& info;
  std::int64_t n, k, groups, stride;
  Array<std::uint8_t> weight, oracle;
  Array<std::int8_t> q;
  Array<float> act_scale;
  Array<std::int32_t> group_sum;

  Case(const Packed& by, std::int64_t rows, std::int64_t columns, Values codes, Values acts)
      : packed(by),
        info(format_info(packed.format)),
        n(rows),
        k(columns),
        groups(ceil_div(k, kGroupSize)),
        stride(round_up(k, 8)),
        weight(code_bytes(info, n, k)),
        oracle(code_bytes(format_info(packed.oracle), n, k)),
        q(kMostTokens * stride),
        act_scale(kMostTokens),
        group_sum(kMostTokens * groups) {
    Random random(static_cast<std::uint64_t>(n * 10000 + k));
    const Array<std::int8_t> t(n * k);
    for (std::int8_t& value : t) value = pick(random, codes, -packed.most, packed.most);
    packed.pack(t.data(), n, k, weight.data());
    packed.pack_oracle(t.data(), n, k, oracle.data());
    for (std::int64_t token = 0; token < kMostTokens; ++token) {
      act_scale[token] = random.uniform(0.001f, 3.0f);
      for (std::int64_t i = 0; i < k; ++i) {
        const std::int8_t act = pick(random, acts, -128, 127);
        q[token * stride + i] = act;
        group_sum[token * groups + i / kGroupSize] += act;
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

void compare_dot(const KernelTable& table, const KernelTable& generic, const Case& c,
                 const std::string& values, Check& check) {
  const std::int64_t stride = c.n + 1;
  const auto run = [&](DotFn dot, const Array<std::uint8_t>& weight, std::int64_t tokens,
                       Array<std::int32_t>& out) {
    for (std::int32_t& value : out) value = 77;
    dot(weight.data(), c.n, c.k, c.acts(), tokens, 0, c.panels(), out.data(), stride);
  };
  Array<std::int32_t> expected(kMostTokens * stride), got(kMostTokens * stride);
  run(generic.dot[static_cast<int>(c.packed.oracle)], c.oracle, kMostTokens, expected);
  for (const std::int64_t tokens : kTokens) {
    run(table.dot[static_cast<int>(c.packed.format)], c.weight, tokens, got);
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
  const auto run = [&](LinearFn linear, const Array<std::uint8_t>& weight, std::int64_t tokens,
                       Array<float>& out) {
    for (float& value : out) value = 77;
    LinearArgs args{};
    args.weight = weight.data();
    args.scale = scale.f16 ? static_cast<const void*>(halves.data()) : values.data();
    args.scale_kind = scale.kind;
    args.scale_is_f16 = scale.f16;
    args.n = c.n;
    args.k = c.k;
    args.tokens = tokens;
    args.acts = c.acts();
    args.out = out.data();
    args.out_stride = stride;
    // Two calls, as two threads would make them.
    const std::int64_t half = c.panels() / 2;
    linear(args, 0, half);
    linear(args, half, c.panels());
  };
  Array<float> expected(kMostTokens * stride), got(kMostTokens * stride);
  run(generic.linear[static_cast<int>(c.packed.oracle)], c.oracle, kMostTokens, expected);
  for (const std::int64_t tokens : kTokens) {
    run(table.linear[static_cast<int>(c.packed.format)], c.weight, tokens, got);
    compare(check,
            text("n %lld, k %lld, %lld tokens", static_cast<long long>(c.n),
                 static_cast<long long>(c.k), static_cast<long long>(tokens)),
            got, expected, tokens, c.n, stride);
  }
}

// Whether bytes are valid, and the codes of those that are.
void compare_expand(const KernelTable& table, const KernelTable& generic, Check& check) {
  for (const std::int64_t tiles : {2, 4, 6, 10, 12, 32, 64, 650}) {
    const Packed& packed = kPacked[2];
    const Case c(packed, 32, tiles * ternary2::kTileCols, Values::kRandom, Values::kRandom);
    Array<std::uint8_t> got(tiles * ternary2::kTileBytes);
    const auto compare = [&](std::int64_t byte, std::uint8_t value) {
      const std::uint8_t before = c.weight[byte];
      c.weight[byte] = value;
      const bool valid = table.expand_trits5(c.weight.data(), tiles, got.data());
      const bool expected = generic.expand_trits5(c.weight.data(), tiles, c.oracle.data());
      const std::string where = text("%lld tiles, byte %lld = %d", static_cast<long long>(tiles),
                                     static_cast<long long>(byte), value);
      check.expect(valid == expected, where + ", valid", 0, valid, expected);
      for (std::int64_t i = 0; valid && i < got.size(); ++i)
        check.expect(got[i] == c.oracle[i], where, i, got[i], c.oracle[i]);
      c.weight[byte] = before;
    };
    for (int value = 0; value < 256; ++value)
      for (const std::int64_t byte : {std::int64_t{0}, c.weight.size() / 2, c.weight.size() - 1})
        compare(byte, static_cast<std::uint8_t>(value));
  }
}

}  // namespace

void compare_packed(const Tables& tables) {
  const KernelTable &table = tables.table, &generic = tables.generic;
  for (const Packed& packed : kPacked) {
    const FormatInfo& info = format_info(packed.format);
    const std::string name = std::string(table.name) + " " + info.name;
    if (tables.owns(&KernelTable::dot, packed.format)) {
      Check check(name + " dot", "equal");
      for (const std::int64_t n : {1, 31, 32, 33, 65})
        for (const std::int64_t k : {4, 8, 12, 36, 128, 132, 256, 260, 1000, 2560})
          if (k < 1000 || n % 32 == 1)
            compare_dot(table, generic, Case(packed, n, k, Values::kRandom, Values::kRandom),
                        "any values", check);
      for (const Values codes : {Values::kLowest, Values::kHighest})
        for (const Values acts : {Values::kLowest, Values::kHighest})
          for (const std::int64_t k : {36, 256, 2560})
            compare_dot(table, generic, Case(packed, 33, k, codes, acts), "extremes", check);
    }
    for (const Scale scale : kScales) {
      if (!allows_scale(info, scale.kind) || !tables.owns(&KernelTable::linear, packed.format))
        continue;
      Check check(
          name + " linear, scale " + scale_kind_name(scale.kind) + (scale.f16 ? " f16" : ""),
          "equal");
      for (const std::int64_t n : {1, 32, 65})
        for (const std::int64_t k : {4, 36, 128, 132, 256, 1000})
          compare_linear(table, generic, Case(packed, n, k, Values::kRandom, Values::kRandom),
                         scale, check);
    }
  }
  if (tables.owns(&KernelTable::expand_trits5)) {
    Check check(std::string(table.name) + " expand_trits5", "equal");
    compare_expand(table, generic, check);
  }
  for (int i = 0; i < kNumFormats; ++i) {
    const FormatInfo& info = format_info(static_cast<Format>(i));
    bool listed = !info.packed;
    for (const Packed& packed : kPacked) listed = listed || packed.format == info.format;
    if (!listed) Check(info.name, "").fail("no line in kPacked (tests/isa/equal_packed.cpp)");
  }
}

}  // namespace bitnet::test
