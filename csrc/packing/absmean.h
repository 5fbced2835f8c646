// Owns: absmean quantization to ternary codes (arXiv 2402.17764, eq. 1-3) and its scales.
//   gamma = max(mean|W|, 1e-5);  t = clip(rint_half_even(W * (1/gamma)), -1, 1);  w ~ gamma * t
// The mean of |W| is summed in float64: columns in order within a row, then rows in order.
#pragma once

#include <cstdint>

namespace bitnet::absmean {

inline constexpr float kMinScale = 1e-5f;

// Sums of |w| per row (float64). w: float32 [n, k]. Callers that stream a tensor in blocks of rows
// add the row sums in order, so the block size does not change the result.
void row_abs_sums(const float* w, std::int64_t n, std::int64_t k, double* sums);

// gamma = max(float(sum / count), 1e-5).
float scale_from_sum(double abs_sum, std::int64_t count);

// One row (or part of a row) against one gamma. t: int8 [k].
void quantize(const float* w, std::int64_t k, float gamma, std::int8_t* t);

// Per group of 128 along K of one row: scale[ceil(k/128)], t[k]. If round_f16, each gamma is
// rounded to float16 before it is used, so that codes and the stored scale belong together.
void quantize_groups(const float* w, std::int64_t k, bool round_f16, float* scale, std::int8_t* t);

}  // namespace bitnet::absmean
