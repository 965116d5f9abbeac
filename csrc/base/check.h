// Errors at the boundary of a call. Form: `where: what was expected, got what. What to do.`
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace lmrun::base {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// What a caller can mend: a setting or a parameter that is not legal.
class InvalidArgument : public Error {
 public:
  using Error::Error;
};

}  // namespace lmrun::base

// LMRUN_CHECK(n > 0, "rms_norm: n must be positive, got " << n);
#define LMRUN_CHECK(condition, message)                   \
  do {                                                    \
    if (!(condition)) {                                   \
      std::ostringstream lmrun_check_text;                \
      lmrun_check_text << message;                        \
      throw ::lmrun::base::Error(lmrun_check_text.str()); \
    }                                                     \
  } while (false)
