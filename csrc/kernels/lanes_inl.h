// Owns: what the loop nests (*_inl.h) ask of an ISA for floats, and the handling of tails.
//
// The nests are templates over a struct of primitives `S`, eight lanes wide everywhere, so that no
// loop is written twice:
//   F, I                       8 floats, 8 int32
//   load(const float* | const F16* | const BF16*) -> F;  store(float* | F16*, F)
//   set(float) -> F;  add sub mul div min max(F, F);  sqrt(F);  fma(a, b, c) = a * b + c
//                              min(a, b), max(a, b) give b where a or b is NaN
//   sum(F)                     ((0+1)+(2+3)) + ((4+5)+(6+7)), always this tree
//   largest(F)                 of the eight lanes
//   load(const int32*) -> I;  store(int32*, I);  set_int(int32) -> I;  add sub(I, I);  sum(I)
//   to_int(F)                  to nearest, ties to even; anything where it does not fit
//   to_float(I);  halve(I) rounds down;  exp2(I) = 2^i for normal results
//   clip_int8(I) -> I;  store_int8(int8*, I)   the low byte of each lane
//   prefetch(address);  keep(F) -> F, the same in a register
//
// These headers are compiled once per ISA, each with its own flags. So everything in them has
// internal linkage, and they use nothing from the C++ library: an inline function that the linker
// may merge could carry AVX2 instructions into code that runs everywhere.
#pragma once

#include <cstdint>
#include <utility>

// BITNET_NEST marks a loop nest over registers. It is compiled on its own, with everything that it
// calls inlined: else gcc 12 leaves a lambda as a call, and the registers that it works on in
// memory.
#if defined(__GNUC__)
#define BITNET_NEST __attribute__((noinline, flatten))
#else
#define BITNET_NEST __declspec(noinline)
#endif

namespace bitnet {
namespace {

constexpr std::int64_t kLanes = 8;

struct F16 {
  std::uint16_t bits;
};
struct BF16 {
  std::uint16_t bits;
};

constexpr std::int64_t smaller(std::int64_t a, std::int64_t b) { return b < a ? b : a; }
constexpr std::int64_t larger(std::int64_t a, std::int64_t b) { return a < b ? b : a; }

template <int kValue>
struct Index {
  constexpr operator int() const { return kValue; }
};
template <class Fn, int... kIndex>
void repeat_over(Fn fn, std::integer_sequence<int, kIndex...>) {
  (fn(Index<kIndex>{}), ...);
}
// fn(0), ..., fn(kCount - 1) with constants. Arrays of registers are walked with it: of a plain
// loop gcc 12 decides too late that it can be unrolled, and then keeps the array in memory.
template <int kCount, class Fn>
void repeat(Fn fn) {
  repeat_over(fn, std::make_integer_sequence<int, kCount>{});
}

// The first `count` < 8 elements, zeros after them; nothing beyond is read.
template <class S, class E>
typename S::F load_some(const E* from, std::int64_t count) {
  E lanes[kLanes] = {};
  for (std::int64_t i = 0; i < count; ++i) lanes[i] = from[i];
  return S::load(lanes);
}

// The first `count` < 8 lanes.
template <class S, class E, class Vec>
void store_some(E* to, Vec value, std::int64_t count) {
  E lanes[kLanes];
  S::store(lanes, value);
  for (std::int64_t i = 0; i < count; ++i) to[i] = lanes[i];
}

// Calls body(load, store) for every 8 elements of [0, n); load(p) and store(p, value) stand for the
// elements in turn of an array p, and stop at n. So an element's result does not depend on where it
// stands.
template <class S, class Body>
void for_lanes(std::int64_t n, Body body) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    body([i](const auto* p) { return S::load(p + i); },
         [i](auto* p, typename S::F value) { S::store(p + i, value); });
  if (i == n) return;
  body([i, n](const auto* p) { return load_some<S>(p + i, n - i); },
       [i, n](auto* p, typename S::F value) { store_some<S>(p + i, value, n - i); });
}

}  // namespace
}  // namespace bitnet
