// Owns: the test's arrays and numbers. An array ends where a page begins that nobody may touch, so
// that a kernel which reads past an end stops the program.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <new>

namespace bitnet::test {

template <class T>
class Array {
 public:
  explicit Array(std::int64_t count) : count_(count) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t used = static_cast<std::size_t>(count) * sizeof(T);
    const std::size_t whole = (used + page - 1) / page * page;
    bytes_ = whole + page;
    map_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map_ == MAP_FAILED) throw std::bad_alloc();
    char* start = static_cast<char*>(map_);
    mprotect(start + whole, page, PROT_NONE);
    data_ = reinterpret_cast<T*>(start + whole - used);
  }
  ~Array() { munmap(map_, bytes_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  T* data() const { return data_; }
  std::int64_t size() const { return count_; }
  T& operator[](std::int64_t i) const { return data_[i]; }
  T* begin() const { return data_; }
  T* end() const { return data_ + count_; }

 private:
  std::int64_t count_;
  std::size_t bytes_ = 0;
  void* map_ = nullptr;
  T* data_ = nullptr;
};

// The same numbers on every machine: splitmix64.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t bits() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }
  int between(int low, int high) {
    return low + static_cast<int>(bits() % static_cast<std::uint64_t>(high - low + 1));
  }
  float uniform(float low, float high) {
    return low + (high - low) * static_cast<float>(bits() >> 40) * 0x1p-24f;
  }

 private:
  std::uint64_t state_;
};

}  // namespace bitnet::test
