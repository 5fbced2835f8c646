// Owns: 64-byte aligned memory for scratch and caches (one AVX-512 load, one cache line).
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

namespace bitnet {

// An uninitialised array of trivially copyable T. Growing discards the contents.
template <class T>
class AlignedBuffer {
 public:
  static constexpr std::size_t kAlignment = 64;

  AlignedBuffer() = default;
  explicit AlignedBuffer(std::int64_t size) { reserve(size); }
  AlignedBuffer(AlignedBuffer&& other) noexcept { swap(other); }
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~AlignedBuffer() { release(); }

  // At least `size` elements; returns the data pointer.
  T* reserve(std::int64_t size) {
    if (size > capacity_) {
      release();
      data_ = static_cast<T*>(
          ::operator new(static_cast<std::size_t>(size) * sizeof(T), std::align_val_t{kAlignment}));
      capacity_ = size;
    }
    return data_;
  }
  T* data() { return data_; }
  const T* data() const { return data_; }
  std::int64_t capacity() const { return capacity_; }

 private:
  void swap(AlignedBuffer& other) {
    std::swap(data_, other.data_);
    std::swap(capacity_, other.capacity_);
  }
  void release() {
    if (data_) ::operator delete(data_, std::align_val_t{kAlignment});
    data_ = nullptr;
    capacity_ = 0;
  }
  T* data_ = nullptr;
  std::int64_t capacity_ = 0;
};

}  // namespace bitnet
