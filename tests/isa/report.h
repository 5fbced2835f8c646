// Owns: what the test prints, and whether it failed.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <string>

namespace bitnet::test {

inline std::string text(const char* format, ...) __attribute__((format(printf, 1, 2)));
inline std::string text(const char* format, ...) {
  char buffer[256];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(buffer, sizeof buffer, format, arguments);
  va_end(arguments);
  return buffer;
}

// One kernel of one table. Prints its line when it goes.
class Check {
 public:
  Check(std::string what, const char* how) : what_(std::move(what)), how_(how) {}
  ~Check() {
    if (!failed_)
      std::printf("%-40s %7lld numbers %s\n", what_.c_str(), static_cast<long long>(count_), how_);
    std::fflush(stdout);
  }
  Check(const Check&) = delete;
  Check& operator=(const Check&) = delete;

  // Only the first failure of a kernel is told.
  void expect(bool ok, const std::string& where, std::int64_t at, double got, double expected) {
    ++count_;
    if (ok || failed_) return;
    fail(text("%s: [%lld] is %.9g, expected %.9g", where.c_str(), static_cast<long long>(at), got,
              expected));
  }
  void fail(const std::string& why) {
    if (!failed_) std::printf("FAILED %s: %s\n", what_.c_str(), why.c_str());
    failed_ = true;
    any_failed = true;
  }
  bool failed() const { return failed_; }

  static inline bool any_failed = false;

 private:
  const std::string what_;
  const char* const how_;
  std::int64_t count_ = 0;
  bool failed_ = false;
};

}  // namespace bitnet::test
