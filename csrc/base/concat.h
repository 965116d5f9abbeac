// Text of error messages, put together from values.
#pragma once

#include <sstream>
#include <string>

namespace lmrun::base {

template <typename... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace lmrun::base
