// Owns: the comparison of the elementwise kernels. What multiplies and adds in a fixed order is
// equal in every bit; what an ISA may fuse or sum in another order agrees within its rounding.
#include <cfloat>
#include <cmath>
#include <cstring>

#include "arrays.h"
#include "equal.h"
#include "report.h"

namespace bitnet::test {
namespace {

constexpr std::int64_t kLengths[] = {1, 2, 7, 8, 9, 31, 32, 33, 64, 127, 128, 129, 260, 1000, 2560};

bool same(float a, float b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b));
}

template <class T>
void expect_same(Check& check, const Array<T>& got, const Array<T>& expected) {
  for (std::int64_t i = 0; i < got.size(); ++i)
    check.expect(got[i] == expected[i], text("n %lld", static_cast<long long>(got.size())), i,
                 static_cast<double>(got[i]), static_cast<double>(expected[i]));
}
template <>
void expect_same(Check& check, const Array<float>& got, const Array<float>& expected) {
  for (std::int64_t i = 0; i < got.size(); ++i)
    check.expect(same(got[i], expected[i]), text("n %lld", static_cast<long long>(got.size())), i,
                 static_cast<double>(got[i]), static_cast<double>(expected[i]));
}

// Within `relative` of the expected, or of the smallest normal number.
void expect_near(Check& check, const Array<float>& got, const Array<float>& expected,
                 double relative) {
  for (std::int64_t i = 0; i < got.size(); ++i) {
    const double want = static_cast<double>(expected[i]), value = static_cast<double>(got[i]);
    const double tolerance = relative * std::fmax(std::fabs(want), static_cast<double>(FLT_MIN));
    check.expect(same(got[i], expected[i]) || std::fabs(value - want) <= tolerance,
                 text("n %lld", static_cast<long long>(got.size())), i, value, want);
  }
}

void fill(Array<float>& x, Random& random, float magnitude) {
  for (float& value : x) value = random.uniform(-magnitude, magnitude);
}
void copy(const Array<float>& from, Array<float>& to) {
  std::memcpy(to.data(), from.data(), static_cast<std::size_t>(from.size()) * sizeof(float));
}

struct Quantized {
  Array<std::int8_t> q;
  Array<float> scale{1};
  Array<std::int32_t> group_sum;
  explicit Quantized(std::int64_t k) : q(round_up(k, 8)), group_sum(ceil_div(k, kGroupSize)) {}
  void by(const KernelTable& table, const Array<float>& x) {
    std::memset(q.data(), 77, static_cast<std::size_t>(q.size()));
    table.quantize_act(x.data(), x.size(), q.data(), scale.data(), group_sum.data());
  }
};

void compare_quantize(const KernelTable& table, const KernelTable& generic, Check& check) {
  Random random(1);
  for (const std::int64_t k : kLengths) {
    Array<float> x(k);
    Quantized got(k), expected(k);
    const auto compare = [&] {
      got.by(table, x);
      expected.by(generic, x);
      expect_same(check, got.scale, expected.scale);
      if (!std::isfinite(expected.scale[0])) return;  // then the integers mean nothing
      expect_same(check, got.q, expected.q);
      expect_same(check, got.group_sum, expected.group_sum);
    };
    for (const float magnitude : {0.0f, 1e-42f, 1e-30f, 1e-6f, 0.3f, 127.0f, 5e4f, 3e38f}) {
      fill(x, random, magnitude);
      compare();
    }
    for (float& value : x) value = static_cast<float>(random.between(-254, 254)) / 2;  // ties
    x[0] = 127;
    compare();
    for (float& value : x) value = -0.1f;
    compare();
    for (const float value : {HUGE_VALF, -HUGE_VALF, NAN}) {
      fill(x, random, 1.0f);
      x[k - 1] = value;
      compare();
    }
  }
}

void compare_gated(const KernelTable& table, const KernelTable& generic, Activation act,
                   double relative, Check& check) {
  Random random(2);
  for (const std::int64_t n : kLengths)
    for (const float magnitude : {0.5f, 8.0f, 80.0f, 300.0f}) {
      Array<float> gate(n), up(n), got(n), expected(n);
      fill(gate, random, magnitude);
      fill(up, random, 2.0f);
      gate[n / 2] = 0;
      if (n > 2) gate[1] = -0.0f;
      table.gated_activation(act, gate.data(), up.data(), n, got.data());
      generic.gated_activation(act, gate.data(), up.data(), n, expected.data());
      expect_near(check, got, expected, relative);
    }
}

void compare_rms_norm(const KernelTable& table, const KernelTable& generic, Check& check) {
  Random random(3);
  for (const std::int64_t n : kLengths)
    for (const float magnitude : {1e-12f, 0.1f, 1000.0f}) {
      Array<float> x(n), weight(n), got(n), expected(n);
      fill(x, random, magnitude);
      fill(weight, random, 2.0f);
      copy(x, got);  // in place is allowed
      table.rms_norm(got.data(), weight.data(), 1e-5f, n, got.data());
      generic.rms_norm(x.data(), weight.data(), 1e-5f, n, expected.data());
      // A sum of n squares in 32 lanes and a tree, each rounded twice where not fused; half of it
      // passes the root, and five operations follow. Both tables may be off so far.
      const double rounding = static_cast<double>(2 * (n / 32 + 8)) / 2 + 5;
      expect_near(check, got, expected, 2 * rounding * static_cast<double>(FLT_EPSILON) / 2);
    }
}

void compare_rope(const KernelTable& table, const KernelTable& generic, Check& check) {
  Random random(4);
  for (const std::int64_t n : kLengths) {
    Array<float> cos(n), sin(n), got(2 * n), expected(2 * n);
    fill(got, random, 10.0f);
    fill(cos, random, 1.0f);
    fill(sin, random, 1.0f);
    copy(got, expected);
    table.rope(got.data(), cos.data(), sin.data(), 2 * n);
    generic.rope(expected.data(), cos.data(), sin.data(), 2 * n);
    expect_same(check, got, expected);
  }
}

void compare_add(const KernelTable& table, const KernelTable& generic, Check& check) {
  Random random(5);
  for (const std::int64_t n : kLengths) {
    Array<float> y(n), got(n), expected(n);
    fill(y, random, 10.0f);
    fill(got, random, 1.0f);
    copy(got, expected);
    table.add(y.data(), n, got.data());
    generic.add(y.data(), n, expected.data());
    expect_same(check, got, expected);
  }
}

void compare_maxima(const KernelTable& table, const KernelTable& generic, Check& check) {
  Random random(6);
  for (const std::int64_t n : kLengths) {
    Array<float> x(n), got(ceil_div(n, kLogitBlock)), expected(ceil_div(n, kLogitBlock));
    for (const float magnitude : {1e-6f, 30.0f}) {
      fill(x, random, magnitude);
      table.block_maxima(x.data(), n, got.data());
      generic.block_maxima(x.data(), n, expected.data());
      expect_same(check, got, expected);
    }
  }
}

void compare_sum_exp(const KernelTable& table, const KernelTable& generic, Check& check) {
  Random random(7);
  // Each exponential is right to 3 ulp; 64 of them are added in a lane.
  const double relative = 2 * (3 + 64) * static_cast<double>(FLT_EPSILON);
  for (const std::int64_t n : kLengths) {
    Array<float> x(n);
    for (const float magnitude : {0.1f, 30.0f, 200.0f}) {
      fill(x, random, magnitude);
      const double got = table.sum_exp(x.data(), n, magnitude, 1.25f);
      const double expected = generic.sum_exp(x.data(), n, magnitude, 1.25f);
      check.expect(
          std::fabs(got - expected) <= relative * std::fmax(expected, static_cast<double>(FLT_MIN)),
          text("n %lld", static_cast<long long>(n)), 0, got, expected);
    }
  }
}

}  // namespace

void compare_elementwise(const Tables& tables) {
  const KernelTable &table = tables.table, &generic = tables.generic;
  const std::string name = table.name;
  if (tables.owns(&KernelTable::quantize_act)) {
    Check check(name + " quantize_act", "equal");
    compare_quantize(table, generic, check);
  }
  if (tables.owns(&KernelTable::rope)) {
    Check check(name + " rope", "equal");
    compare_rope(table, generic, check);
  }
  if (tables.owns(&KernelTable::add)) {
    Check check(name + " add", "equal");
    compare_add(table, generic, check);
  }
  if (tables.owns(&KernelTable::block_maxima)) {
    Check check(name + " block_maxima", "equal");
    compare_maxima(table, generic, check);
  }
  if (tables.owns(&KernelTable::sum_exp)) {
    Check check(name + " sum_exp", "within 2 (3 + 64) eps");
    compare_sum_exp(table, generic, check);
  }
  if (tables.owns(&KernelTable::gated_activation)) {
    Check relu2(name + " gated_activation, relu2", "equal");
    compare_gated(table, generic, Activation::kRelu2, 0.0, relu2);
    // Each exponential is right to 2 ulp; three more operations.
    const double relative = 8 * static_cast<double>(FLT_EPSILON);
    Check silu(name + " gated_activation, silu", "within 8 eps");
    compare_gated(table, generic, Activation::kSilu, relative, silu);
    Check gelu(name + " gated_activation, gelu", "within 8 eps");
    compare_gated(table, generic, Activation::kGeluTanh, relative, gelu);
  }
  if (tables.owns(&KernelTable::rms_norm)) {
    Check check(name + " rms_norm", "within (n/32 + 13) eps");
    compare_rms_norm(table, generic, check);
  }
}

}  // namespace bitnet::test
