// Owns: the comparison of attention: with the generic table within the rounding of a softmax, and
// with itself over the queries of a call, bit for bit.
#include <cfloat>
#include <cmath>
#include <cstring>
#include <vector>

#include "arrays.h"
#include "base/float16.h"
#include "equal.h"
#include "report.h"

namespace bitnet::test {
namespace {

constexpr double kEps = static_cast<double>(FLT_EPSILON);

// Keys and values of one head, in float and as the cache holds them.
struct Cache {
  std::int64_t dim;
  KvType type;
  Array<float> k, v;
  Array<std::uint8_t> k_bytes, v_bytes;

  Cache(const KernelTable& generic, std::int64_t keys, std::int64_t head_dim, KvType kv_type)
      : dim(head_dim),
        type(kv_type),
        k(keys * dim),
        v(keys * dim),
        k_bytes(keys * dim * kv_type_bytes(type)),
        v_bytes(keys * dim * kv_type_bytes(type)) {
    Random random(9);
    for (const Array<float>* array : {&k, &v})
      for (float& value : *array) value = f16_to_float(float_to_f16(random.uniform(-2.0f, 2.0f)));
    generic.store_kv(k.data(), k.size(), type, k_bytes.data());
    generic.store_kv(v.data(), v.size(), type, v_bytes.data());
  }
};

// The bound of |computed - exact| for one output: a score is off by the rounding of its dot
// product, so its exponential by a factor; then a sum over keys.
std::vector<double> tolerances(const Cache& cache, const float* q, std::int64_t n_keys,
                               double scale) {
  const std::int64_t dim = cache.dim;
  std::vector<double> score(static_cast<std::size_t>(n_keys)), bound(static_cast<std::size_t>(dim));
  double most = -HUGE_VAL, magnitude = 0, total = 0;
  for (std::int64_t j = 0; j < n_keys; ++j) {
    double sum = 0, absolute = 0;
    for (std::int64_t d = 0; d < dim; ++d) {
      const double product = static_cast<double>(q[d]) * static_cast<double>(cache.k[j * dim + d]);
      sum += product;
      absolute += std::fabs(product);
    }
    score[static_cast<std::size_t>(j)] = sum * scale;
    most = std::fmax(most, sum * scale);
    magnitude = std::fmax(magnitude, absolute * scale);
  }
  for (double& s : score) total += s = std::exp(s - most);
  for (std::int64_t j = 0; j < n_keys; ++j)
    for (std::int64_t d = 0; d < dim; ++d)
      bound[static_cast<std::size_t>(d)] += score[static_cast<std::size_t>(j)] / total *
                                            std::fabs(static_cast<double>(cache.v[j * dim + d]));
  const double in_score = static_cast<double>(dim / 8 + 8) * magnitude * kEps;
  const double in_sum = static_cast<double>(n_keys + 16) * kEps;
  for (double& b : bound) b *= 2 * in_score + in_sum;
  return bound;
}

struct Queries {
  Array<float> q;
  std::vector<std::int64_t> n_keys;
  std::int64_t dim;

  Queries(std::int64_t count, std::int64_t head_dim, std::int64_t keys)
      : q(count * head_dim), dim(head_dim) {
    Random random(10);
    for (float& value : q) value = random.uniform(-3.0f, 3.0f);
    for (std::int64_t i = 0; i < count; ++i) n_keys.push_back(keys - count + 1 + i);
  }

  void attend(const KernelTable& table, const Cache& cache, std::int64_t first, std::int64_t count,
              Array<float>& out) const {
    std::vector<const float*> queries;
    std::vector<float*> outs;
    for (std::int64_t i = first; i < first + count; ++i) {
      queries.push_back(q.data() + i * dim);
      outs.push_back(out.data() + i * dim);
    }
    const Array<float> scratch(attend_scratch_floats(count, dim));
    AttendArgs args{};
    args.q = queries.data();
    args.n_keys = n_keys.data() + first;
    args.out = outs.data();
    args.queries = count;
    args.k = cache.k_bytes.data();
    args.v = cache.v_bytes.data();
    args.kv_type = cache.type;
    args.head_dim = dim;
    args.scale = 1.0f / std::sqrt(static_cast<float>(dim));
    args.scratch = scratch.data();
    table.attend(args);
  }
};

}  // namespace

void compare_attend(const Tables& tables) {
  if (!tables.owns(&KernelTable::attend)) return;
  const KernelTable &table = tables.table, &generic = tables.generic;
  for (const KvType type : {KvType::kF32, KvType::kF16}) {
    const std::string name =
        std::string(table.name) + " attend, " + (type == KvType::kF32 ? "f32" : "f16");
    Check check(name, "within 2 (4 (d/8 + 8) |score| + keys) eps");
    Check invariant(name, "equal for any queries in a call");
    for (const std::int64_t dim : {4, 16, 36, 64, 128})
      for (const std::int64_t keys : {9, 64, 255, 257, 520}) {
        const std::int64_t count = 9;
        const Cache cache(generic, keys, dim, type);
        const Queries queries(count, dim, keys);
        Array<float> got(count * dim), expected(count * dim), other(count * dim);
        queries.attend(table, cache, 0, count, got);
        queries.attend(generic, cache, 0, count, expected);
        const std::string where = text("head_dim %lld, %lld keys", static_cast<long long>(dim),
                                       static_cast<long long>(keys));
        for (std::int64_t i = 0; i < count; ++i) {
          const auto bound = tolerances(cache, queries.q.data() + i * dim,
                                        queries.n_keys[static_cast<std::size_t>(i)],
                                        1 / std::sqrt(static_cast<double>(dim)));
          for (std::int64_t d = 0; d < dim; ++d) {
            const auto value = static_cast<double>(got[i * dim + d]);
            const auto want = static_cast<double>(expected[i * dim + d]);
            check.expect(std::fabs(value - want) <= 2 * bound[static_cast<std::size_t>(d)], where,
                         i * dim + d, value, want);
          }
        }
        for (const std::int64_t step : {1, 2, 3}) {
          for (std::int64_t i = 0; i + step <= count; i += step)
            queries.attend(table, cache, i, step, other);
          for (std::int64_t i = 0; i < count / step * step * dim; ++i)
            invariant.expect(std::memcmp(&other[i], &got[i], sizeof(float)) == 0,
                             where + text(", by %lld", static_cast<long long>(step)), i,
                             static_cast<double>(other[i]), static_cast<double>(got[i]));
        }
      }
  }
}

}  // namespace bitnet::test
