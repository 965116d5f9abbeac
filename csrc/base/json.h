// A strict JSON reader (RFC 8259) for small documents that are not trusted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace lmrun::base {

struct JsonLimits {
  size_t max_bytes = size_t{64} << 20;
  int max_depth = 32;
  size_t max_values = size_t{1} << 22;  // each takes some 40 bytes, however short its text
};

class Json {
 public:
  using Array = std::vector<Json>;
  using Member = std::pair<std::string, Json>;
  using Object = std::vector<Member>;  // in the order of the text; keys are unique

  // Throws Error with line and column: for what is not JSON, a key that comes twice, text that is
  // not UTF-8, a number out of range of int64 (written as an integer) or double, or past a limit.
  static Json parse(std::string_view text, const JsonLimits& limits = {});

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  // Null where the value is of another kind. An integer is a number written without '.' and
  // exponent; `as_number` also takes integers, exactly up to 2^53.
  const bool* as_bool() const { return std::get_if<bool>(&value_); }
  const int64_t* as_integer() const { return std::get_if<int64_t>(&value_); }
  const std::string* as_string() const { return std::get_if<std::string>(&value_); }
  const Array* as_array() const { return std::get_if<Array>(&value_); }
  const Object* as_object() const { return std::get_if<Object>(&value_); }
  bool as_number(double* value) const;

  // The member of an object, or null.
  const Json* find(std::string_view key) const;

 private:
  friend class JsonParser;
  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
};

}  // namespace lmrun::base
