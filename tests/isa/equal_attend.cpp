// Owns: the comparison of the KV cache and of attention: what is stored is equal to the byte; what
// is read agrees with the generic table within the rounding of a softmax, and with itself over the
// queries of a call, bit for bit.
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
constexpr KvType kTypes[] = {KvType::kF32, KvType::kF16, KvType::kInt8};

std::int64_t type_bytes(KvType type) { return kKvTypeBytes[static_cast<int>(type)]; }

double element(const std::uint8_t* bytes, std::int64_t i, KvType type) {
  if (type == KvType::kF32) return static_cast<double>(reinterpret_cast<const float*>(bytes)[i]);
  if (type == KvType::kF16)
    return static_cast<double>(f16_to_float(reinterpret_cast<const std::uint16_t*>(bytes)[i]));
  return static_cast<double>(reinterpret_cast<const std::int8_t*>(bytes)[i]);
}

// `count` tokens of one KV head, as a table stores them.
struct Cache {
  std::int64_t count, dim;
  KvType type;
  Array<std::uint8_t> keys, values;
  Array<float> key_scale, value_scale;

  Cache(const KernelTable& table, std::int64_t tokens, std::int64_t head_dim, KvType kv_type,
        float magnitude = 2.0f)
      : count(tokens),
        dim(head_dim),
        type(kv_type),
        keys(round_to_key_tile(count) * dim * type_bytes(type)),
        values(count * round_to_key_tile(dim) * type_bytes(type)),
        key_scale(round_to_key_tile(count)),
        value_scale(round_to_key_tile(count)) {
    Random random(9);
    Array<float> k(dim), v(dim);
    for (std::int64_t t = 0; t < count; ++t) {
      for (std::int64_t d = 0; d < dim; ++d) {
        k[d] = random.uniform(-magnitude, magnitude);
        v[d] = static_cast<float>(random.between(-8192, 8192)) / 4096 * magnitude;  // ties
      }
      table.store_kv(k.data(), v.data(), head(), t);
    }
  }

  KvHead head() const {
    return {type, dim, keys.data(), values.data(), key_scale.data(), value_scale.data()};
  }
  double key(std::int64_t t, std::int64_t d) const {
    const double code = element(keys.data(), key_index(t, d, dim), type);
    return type == KvType::kInt8 ? code * static_cast<double>(key_scale[t]) : code;
  }
  double value(std::int64_t t, std::int64_t d) const {
    const double code = element(values.data(), t * head().value_stride() + d, type);
    return type == KvType::kInt8 ? code * static_cast<double>(value_scale[t]) : code;
  }
};

template <class T>
void expect_equal(Check& check, const std::string& where, const Array<T>& got,
                  const Array<T>& expected) {
  for (std::int64_t i = 0; i < got.size(); ++i)
    check.expect(std::memcmp(&got[i], &expected[i], sizeof(T)) == 0, where, i,
                 static_cast<double>(got[i]), static_cast<double>(expected[i]));
}

void compare_store(const KernelTable& table, const KernelTable& generic, KvType type,
                   Check& check) {
  for (const std::int64_t dim : {4, 8, 20, 64, 100})
    for (const float magnitude :
         {0.0f, 1e-42f, 1e-37f, 1e-9f, 1e-6f, 1e-4f, 2.0f, 65519.0f, 1e6f}) {
      const Cache got(table, 19, dim, type, magnitude), expected(generic, 19, dim, type, magnitude);
      const std::string where = text("head_dim %lld, magnitude %g", static_cast<long long>(dim),
                                     static_cast<double>(magnitude));
      expect_equal(check, where + ", keys", got.keys, expected.keys);
      expect_equal(check, where + ", values", got.values, expected.values);
      expect_equal(check, where + ", scale of keys", got.key_scale, expected.key_scale);
      expect_equal(check, where + ", scale of values", got.value_scale, expected.value_scale);
    }
}

// Some queries, each of which sees one key more than the one before.
struct Queries {
  std::int64_t count, dim;
  Array<float> q;
  std::vector<std::int64_t> n_keys;

  Queries(std::int64_t queries, std::int64_t head_dim, std::int64_t keys)
      : count(queries), dim(head_dim), q(count * dim) {
    Random random(10);
    for (float& value : q) value = random.uniform(-3.0f, 3.0f);
    for (std::int64_t i = 0; i < count; ++i) n_keys.push_back(keys - count + 1 + i);
  }

  double scale() const { return 1 / std::sqrt(static_cast<double>(dim)); }

  void attend(const KernelTable& table, const Cache& cache, std::int64_t first, std::int64_t some,
              Array<float>& out) const {
    std::vector<const float*> queries;
    for (std::int64_t i = first; i < first + some; ++i) queries.push_back(q.data() + i * dim);
    const Array<float> scratch(attend_scratch_floats(some));
    const Array<float> total(some * partial_floats(dim)), partial(some * partial_floats(dim));
    const AttendArgs args{queries.data(), n_keys.data() + first,       some,
                          cache.head(),   static_cast<float>(scale()), scratch.data()};
    const std::int64_t most = n_keys[static_cast<std::size_t>(first + some - 1)];
    table.attend_block(args, 0, total.data());
    for (std::int64_t block = 1; block * kKeyBlock < most; ++block) {
      table.attend_block(args, block, partial.data());
      table.attend_merge(partial.data(), some, dim, total.data());
    }
    for (std::int64_t i = 0; i < some; ++i)
      table.attend_finish(total.data() + i * partial_floats(dim), dim,
                          out.data() + (first + i) * dim);
  }

  // The bound of |computed - exact| for the outputs of query i: a score is off by the rounding of
  // its dot product, so its exponential by a factor; then a sum over keys.
  std::vector<double> tolerances(const Cache& cache, std::int64_t i) const {
    const std::int64_t keys = n_keys[static_cast<std::size_t>(i)];
    std::vector<double> weight, bound(static_cast<std::size_t>(dim));
    double most = -HUGE_VAL, magnitude = 0, total = 0;
    for (std::int64_t t = 0; t < keys; ++t) {
      double sum = 0, absolute = 0;
      for (std::int64_t d = 0; d < dim; ++d) {
        const double product = static_cast<double>(q[i * dim + d]) * cache.key(t, d);
        sum += product;
        absolute += std::fabs(product);
      }
      weight.push_back(sum * scale());
      most = std::fmax(most, sum * scale());
      magnitude = std::fmax(magnitude, absolute * scale());
    }
    for (double& w : weight) total += w = std::exp(w - most);
    for (std::int64_t t = 0; t < keys; ++t)
      for (std::int64_t d = 0; d < dim; ++d)
        bound[static_cast<std::size_t>(d)] +=
            weight[static_cast<std::size_t>(t)] / total * std::fabs(cache.value(t, d));
    const double in_score = static_cast<double>(dim + 8) * magnitude * kEps;
    const double in_sum = static_cast<double>(keys + 16) * kEps;
    for (double& b : bound) b *= 2 * in_score + in_sum;
    return bound;
  }
};

void compare_shape(const KernelTable& table, const KernelTable& generic, const Cache& cache,
                   Check& check, Check& invariant) {
  const std::int64_t count = 13, dim = cache.dim;
  const Queries queries(count, dim, cache.count);
  Array<float> got(count * dim), expected(count * dim), other(count * dim);
  queries.attend(table, cache, 0, count, got);
  queries.attend(generic, cache, 0, count, expected);
  const std::string where = text("head_dim %lld, %lld keys", static_cast<long long>(dim),
                                 static_cast<long long>(cache.count));
  for (std::int64_t i = 0; i < count; ++i) {
    const auto bound = queries.tolerances(cache, i);
    for (std::int64_t d = 0; d < dim; ++d) {
      const auto value = static_cast<double>(got[i * dim + d]);
      const auto want = static_cast<double>(expected[i * dim + d]);
      check.expect(std::fabs(value - want) <= 2 * bound[static_cast<std::size_t>(d)], where,
                   i * dim + d, value, want);
    }
  }
  for (const std::int64_t step : {1, 2, 3, 5}) {
    for (std::int64_t i = 0; i < count; i += step)
      queries.attend(table, cache, i, count - i < step ? count - i : step, other);
    expect_equal(invariant, where + text(", by %lld", static_cast<long long>(step)), other, got);
  }
}

}  // namespace

void compare_attend(const Tables& tables) {
  const KernelTable &table = tables.table, &generic = tables.generic;
  for (const KvType type : kTypes) {
    const std::string kind = kKvTypeNames[static_cast<int>(type)];
    if (tables.owns(&KernelTable::store_kv)) {
      Check check(table.name + (" store_kv, " + kind), "equal");
      compare_store(table, generic, type, check);
    }
    if (!tables.owns(&KernelTable::attend_block) && !tables.owns(&KernelTable::attend_merge) &&
        !tables.owns(&KernelTable::attend_finish))
      continue;
    Check check(table.name + (" attend, " + kind), "within (4 (d + 8) |score| + 2 keys) eps");
    Check invariant(table.name + (" attend, " + kind), "equal for any queries in a call");
    for (const std::int64_t dim : {4, 20, 64, 128})
      for (const std::int64_t keys : {13, 64, 255, 257, 520})
        compare_shape(table, generic, Cache(generic, keys, dim, type), check, invariant);
  }
}

}  // namespace bitnet::test
