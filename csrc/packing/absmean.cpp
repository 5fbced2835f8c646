#include "packing/absmean.h"

#include <algorithm>
#include <cmath>

#include "base/float16.h"
#include "packing/formats.h"

namespace bitnet::absmean {
namespace {

double abs_sum(const float* w, std::int64_t k) {
  double sum = 0.0;
  for (std::int64_t col = 0; col < k; ++col) sum += std::fabs(static_cast<double>(w[col]));
  return sum;
}

}  // namespace

void row_abs_sums(const float* w, std::int64_t n, std::int64_t k, double* sums) {
  for (std::int64_t row = 0; row < n; ++row) sums[row] = abs_sum(w + row * k, k);
}

float scale_from_sum(double sum, std::int64_t count) {
  return std::max(static_cast<float>(sum / static_cast<double>(count)), kMinScale);
}

void quantize(const float* w, std::int64_t k, float gamma, std::int8_t* t) {
  const float inverse = 1.0f / gamma;
  for (std::int64_t col = 0; col < k; ++col)
    t[col] =
        static_cast<std::int8_t>(std::max(-1.0f, std::min(1.0f, std::nearbyint(w[col] * inverse))));
}

void quantize_groups(const float* w, std::int64_t k, bool round_f16, float* scale, std::int8_t* t) {
  for (std::int64_t begin = 0, group = 0; begin < k; begin += kGroupSize, ++group) {
    const std::int64_t size = std::min(kGroupSize, k - begin);
    float gamma = scale_from_sum(abs_sum(w + begin, size), size);
    if (round_f16) gamma = f16_to_float(float_to_f16(gamma));
    scale[group] = gamma;
    quantize(w + begin, size, gamma, t + begin);
  }
}

}  // namespace bitnet::absmean
