#include "base/page_buffer.h"

#include <new>

#if defined(__linux__) || defined(__APPLE__)
#include <sys/mman.h>
#else
#include <cstdlib>
#endif

namespace bitnet {

#if defined(__linux__) || defined(__APPLE__)

PageBuffer::PageBuffer(std::int64_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  const auto size = static_cast<std::size_t>(bytes);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  data_ = static_cast<std::uint8_t*>(memory);
#if defined(MADV_HUGEPAGE)
  madvise(memory, size, MADV_HUGEPAGE);  // a wish; small pages do as well
#endif
}

PageBuffer::~PageBuffer() {
  if (data_) munmap(data_, static_cast<std::size_t>(bytes_));
}

#else

PageBuffer::PageBuffer(std::int64_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  data_ = static_cast<std::uint8_t*>(std::calloc(static_cast<std::size_t>(bytes), 1));
  if (!data_) throw std::bad_alloc();
}

PageBuffer::~PageBuffer() { std::free(data_); }

#endif

}  // namespace bitnet
