// Owns: the elementwise kernels, RMSNorm (arXiv 1910.07467), RoPE (arXiv 2104.09864), activations
// and the quantization of activations, as loop nests over an ISA's primitives (lanes_inl.h).
#pragma once

#include "kernels/kernel_table.h"
#include "kernels/lanes_inl.h"

namespace bitnet {
namespace {

// e^x within 2 ulp: x = n ln2 + r, a polynomial for e^r (Cephes expf), and 2^n as two factors, so
// that results overflow to infinity and underflow through the subnormals to 0. exp(-inf) = 0, NaN
// stays.
template <class S>
typename S::F exp(typename S::F x) {
  using F = typename S::F;
  x = S::max(S::set(-105.0f), S::min(S::set(89.0f), x));
  const auto n = S::to_int(S::mul(x, S::set(1.44269504f)));
  const F whole = S::to_float(n);
  // ln2 in two parts; the product with the first is exact.
  F r = S::fma(whole, S::set(-0.693359375f), x);
  r = S::fma(whole, S::set(2.12194440e-4f), r);
  F p = S::set(1.9875691500e-4f);
  p = S::fma(p, r, S::set(1.3981999507e-3f));
  p = S::fma(p, r, S::set(8.3334519073e-3f));
  p = S::fma(p, r, S::set(4.1665795894e-2f));
  p = S::fma(p, r, S::set(1.6666665459e-1f));
  p = S::fma(p, r, S::set(5.0000001201e-1f));
  p = S::add(S::fma(p, S::mul(r, r), r), S::set(1.0f));
  const auto half = S::halve(n);
  return S::mul(S::mul(p, S::exp2(half)), S::exp2(S::sub(n, half)));
}

// x * sigmoid(y)
template <class S>
typename S::F times_sigmoid(typename S::F x, typename S::F y) {
  return S::div(x, S::add(S::set(1.0f), exp<S>(S::sub(S::set(0.0f), y))));
}

struct Silu {
  template <class S>
  static typename S::F apply(typename S::F x) {
    return times_sigmoid<S>(x, x);
  }
};

struct Relu2 {
  template <class S>
  static typename S::F apply(typename S::F x) {
    const auto positive = S::max(S::set(0.0f), x);
    return S::mul(positive, positive);
  }
};

// 0.5 x (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3): no cancellation below 0.
struct GeluTanh {
  template <class S>
  static typename S::F apply(typename S::F x) {
    const auto cubic = S::mul(S::mul(x, x), S::mul(x, S::set(0.044715f)));
    return times_sigmoid<S>(x, S::mul(S::set(1.59576912f), S::add(x, cubic)));
  }
};

template <class S, class Act>
void gated(const float* gate, const float* up, std::int64_t n, float* out) {
  for_lanes<S>(n, [=](auto load, auto store) {
    store(out, S::mul(Act::template apply<S>(load(gate)), load(up)));
  });
}

template <class S>
void gated_activation(Activation act, const float* gate, const float* up, std::int64_t n,
                      float* out) {
  switch (act) {
    case Activation::kSilu:
      return gated<S, Silu>(gate, up, n, out);
    case Activation::kRelu2:
      return gated<S, Relu2>(gate, up, n, out);
    case Activation::kGeluTanh:
      return gated<S, GeluTanh>(gate, up, n, out);
  }
}

template <class S>
void add(const float* y, std::int64_t n, float* x) {
  for_lanes<S>(n, [=](auto load, auto store) { store(x, S::add(load(x), load(y))); });
}

// Products and sums are rounded separately, as numpy and PyTorch do.
template <class S>
void rope(float* x, const float* cos, const float* sin, std::int64_t head_dim) {
  float *first = x, *second = x + head_dim / 2;
  for_lanes<S>(head_dim / 2, [=](auto load, auto store) {
    const auto a = load(first), b = load(second), c = load(cos), s = load(sin);
    store(first, S::sub(S::mul(a, c), S::mul(b, s)));
    store(second, S::add(S::mul(b, c), S::mul(a, s)));
  });
}

// The mean square is summed in 32 lanes, so its rounding error grows with n / 32.
template <class S>
void rms_norm(const float* x, const float* weight, float eps, std::int64_t n, float* out) {
  using F = typename S::F;
  constexpr std::int64_t kStride = 4 * kLanes;
  F sum[4] = {S::set(0.0f), S::set(0.0f), S::set(0.0f), S::set(0.0f)};
  std::int64_t i = 0;
  for (; i + kStride <= n; i += kStride)
    for (int j = 0; j < 4; ++j) {
      const F v = S::load(x + i + j * kLanes);
      sum[j] = S::fma(v, v, sum[j]);
    }
  for_lanes<S>(n - i, [&](auto load, auto) {
    const F v = load(x + i);
    sum[0] = S::fma(v, v, sum[0]);
  });
  const float total = S::sum(S::add(S::add(sum[0], sum[1]), S::add(sum[2], sum[3])));
  const F mean = S::set(total / static_cast<float>(n) + eps);
  const F scale = S::div(S::set(1.0f), S::sqrt(mean));
  for_lanes<S>(
      n, [=](auto load, auto store) { store(out, S::mul(S::mul(load(x), scale), load(weight))); });
}

// Per-token absmax (arXiv 2402.17764): the contract in kernel_table.h tells the exact rule.
template <class S>
void quantize_act(const float* x, std::int64_t k, std::int8_t* q, float* scale,
                  std::int32_t* group_sum) {
  using F = typename S::F;
  F most = S::set(1e-5f);
  F nothing = S::set(0.0f);  // stays 0 while everything is finite: a maximum does not see NaN
  for_lanes<S>(k, [&](auto load, auto) {
    const F v = load(x);
    most = S::max(S::max(v, S::sub(S::set(0.0f), v)), most);
    nothing = S::fma(v, S::set(0.0f), nothing);
  });
  const float absmax = S::largest(most);
  *scale = absmax / 127.0f + S::sum(nothing);
  const F ratio = S::set(127.0f / absmax);
  for (std::int64_t begin = 0; begin < k; begin += kGroupSize) {
    auto sum = S::set_int(0);
    std::int8_t* to = q + begin;
    for_lanes<S>(smaller(kGroupSize, k - begin), [&](auto load, auto) {
      // |x * ratio| <= 127 but for a last bit, so rounding alone keeps to the range; what is not
      // finite saturates. Lanes past k hold zeros: they are the padding to a multiple of 8.
      const auto codes = S::clip_int8(S::to_int(S::mul(load(x + begin), ratio)));
      S::store_int8(to, codes);
      sum = S::add(sum, codes);
      to += kLanes;
    });
    *group_sum++ = S::sum(sum);
  }
}

}  // namespace
}  // namespace bitnet
