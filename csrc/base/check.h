// Owns: how C++ reports faults. Messages read "[op] expected X, got Y".
//   check_arg: the caller's fault -> std::invalid_argument -> Python ValueError.
//   check:     our own bug        -> std::logic_error      -> Python RuntimeError.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace bitnet {

template <class... Parts>
std::string join_message(const char* op, const Parts&... parts) {
  std::ostringstream text;
  text << '[' << op << "] ";
  (text << ... << parts);
  return text.str();
}

template <class... Parts>
void check_arg(bool ok, const char* op, const Parts&... parts) {
  if (!ok) throw std::invalid_argument(join_message(op, parts...));
}

template <class... Parts>
void check(bool ok, const char* op, const Parts&... parts) {
  if (!ok) throw std::logic_error(join_message(op, parts...));
}

}  // namespace bitnet
