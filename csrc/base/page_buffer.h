// Owns: large memory straight from the operating system, in huge pages where it offers them. It is
// zero and takes no room until it is written.
#pragma once

#include <cstdint>
#include <utility>

namespace bitnet {

class PageBuffer {
 public:
  PageBuffer() = default;
  explicit PageBuffer(std::int64_t bytes);  // std::bad_alloc when there is no room
  PageBuffer(PageBuffer&& other) noexcept { swap(other); }
  PageBuffer& operator=(PageBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~PageBuffer();

  std::uint8_t* data() { return data_; }
  std::int64_t bytes() const { return bytes_; }

 private:
  void swap(PageBuffer& other) {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }
  std::uint8_t* data_ = nullptr;  // aligned to a page at least
  std::int64_t bytes_ = 0;
};

}  // namespace bitnet
