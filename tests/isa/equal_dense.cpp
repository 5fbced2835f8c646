// Owns: the comparison of dense linears: with the generic table within the rounding of a dot
// product, and with themselves over the number of tokens in a call, bit for bit.
#include <cfloat>
#include <cmath>
#include <cstring>

#include "arrays.h"
#include "base/float16.h"
#include "equal.h"
#include "report.h"

namespace bitnet::test {
namespace {

constexpr std::int64_t kTokens[] = {1, 2, 3, 4, 5, 7, 12};
constexpr std::int64_t kMostTokens = 12;

struct Weights {
  Array<std::uint8_t> bytes;
  Array<float> values;  // what the bytes mean

  Weights(Format format, std::int64_t count)
      : bytes(code_bytes(format_info(format), 1, count)), values(count) {
    Random random(7);
    for (std::int64_t i = 0; i < count; ++i) {
      float w = random.uniform(-2.0f, 2.0f);
      std::uint16_t half = 0;
      if (format == Format::kF16) w = f16_to_float(half = float_to_f16(w));
      if (format == Format::kBF16) {
        half = static_cast<std::uint16_t>(float_to_bits(w) >> 16);
        w = bf16_to_float(half);
      }
      values[i] = w;
      if (format == Format::kF32)
        std::memcpy(bytes.data() + 4 * i, &w, 4);
      else
        std::memcpy(bytes.data() + 2 * i, &half, 2);
    }
  }
};

void compare_shape(const KernelTable& table, const KernelTable& generic, Format format,
                   std::int64_t n, std::int64_t k, Check& check, Check& invariant) {
  const Weights weight(format, n * k);
  Array<float> x(kMostTokens * k);
  Random random(8);
  for (float& value : x) value = random.uniform(-3.0f, 3.0f);
  const auto run = [&](const KernelTable& by, std::int64_t tokens, Array<float>& out) {
    LinearArgs args{};
    args.weight = weight.bytes.data();
    args.scale_kind = ScaleKind::kNone;
    args.n = n;
    args.k = k;
    args.tokens = tokens;
    args.x = x.data();
    args.x_stride = k;
    args.out = out.data();
    args.out_stride = n;
    const FormatInfo& info = format_info(format);
    by.linear[static_cast<int>(format)](args, 0, ceil_div(n, info.panel_rows));
  };
  Array<float> got(kMostTokens * n), expected(kMostTokens * n), fewer(kMostTokens * n);
  run(table, kMostTokens, got);
  run(generic, kMostTokens, expected);
  const std::string where =
      text("n %lld, k %lld", static_cast<long long>(n), static_cast<long long>(k));
  for (std::int64_t i = 0; i < got.size(); ++i) {
    double magnitude = 0;
    for (std::int64_t j = 0; j < k; ++j)
      magnitude += std::fabs(static_cast<double>(x[i / n * k + j]) *
                             static_cast<double>(weight.values[i % n * k + j]));
    // A product and k/8 sums in a lane, three in the tree; either table may be off so far.
    const double rounding = static_cast<double>(k / 8 + 5) * static_cast<double>(FLT_EPSILON) / 2;
    const double value = static_cast<double>(got[i]), want = static_cast<double>(expected[i]);
    check.expect(std::fabs(value - want) <= 2 * rounding * magnitude, where, i, value, want);
  }
  for (const std::int64_t tokens : kTokens) {
    run(table, tokens, fewer);
    for (std::int64_t i = 0; i < tokens * n; ++i)
      invariant.expect(std::memcmp(&fewer[i], &got[i], sizeof(float)) == 0,
                       where + text(", %lld tokens", static_cast<long long>(tokens)), i,
                       static_cast<double>(fewer[i]), static_cast<double>(got[i]));
  }
}

}  // namespace

void compare_dense(const Tables& tables) {
  const KernelTable &table = tables.table, &generic = tables.generic;
  for (int i = 0; i < kNumFormats; ++i) {
    const FormatInfo& info = format_info(static_cast<Format>(i));
    if (info.int8_activations || !tables.owns(&KernelTable::linear, info.format)) continue;
    const std::string name = std::string(table.name) + " " + info.name;
    Check check(name + " linear", "within (k/8 + 5) eps sum|w x|");
    Check invariant(name + " linear", "equal for any number of tokens");
    for (const std::int64_t n : {1, 8, 31, 33})
      for (const std::int64_t k : {1, 8, 12, 131, 256, 1000})
        compare_shape(table, generic, info.format, n, k, check, invariant);
  }
}

}  // namespace bitnet::test
