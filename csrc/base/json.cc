#include "base/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>
#include <unordered_set>

#include "base/check.h"
#include "base/concat.h"

namespace lmrun::base {

class JsonParser {
 public:
  JsonParser(std::string_view text, const JsonLimits& limits) : text_(text), limits_(limits) {}

  Json document() {
    if (text_.size() > limits_.max_bytes) {
      throw Error(concat("JSON: ", text_.size(), " bytes; at most ", limits_.max_bytes, "."));
    }
    Json json = value(0);
    skip_space();
    if (pos_ != text_.size()) fail("expected the end of the text");
    return json;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    const std::string_view before = text_.substr(0, pos_);
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const size_t newline = before.rfind('\n');
    const size_t column = pos_ - (newline == std::string_view::npos ? 0 : newline + 1) + 1;
    throw Error(concat("JSON: line ", line, ", column ", column, ": ", what, "."));
  }

  bool at_end() const { return pos_ == text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[pos_]; }

  void skip_space() {
    while (!at_end() && (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r')) {
      ++pos_;
    }
  }

  void expect(char wanted) {
    if (at_end() || text_[pos_] != wanted) fail(concat("expected '", wanted, "'"));
    ++pos_;
  }

  bool take_word(std::string_view word) {
    if (text_.substr(pos_, word.size()) != word) return false;
    pos_ += word.size();
    return true;
  }

  Json value(int depth) {
    if (depth >= limits_.max_depth) fail(concat("nested deeper than ", limits_.max_depth));
    if (++num_values_ > limits_.max_values) {
      fail(concat("more than ", limits_.max_values, " values"));
    }
    skip_space();
    Json json;
    const char first = peek();
    if (first == '{') {
      json.value_ = object(depth);
    } else if (first == '[') {
      json.value_ = array(depth);
    } else if (first == '"') {
      json.value_ = string();
    } else if (first == '-' || (first >= '0' && first <= '9')) {
      number(&json);
    } else if (take_word("true")) {
      json.value_ = true;
    } else if (take_word("false")) {
      json.value_ = false;
    } else if (!take_word("null")) {
      fail("expected a value");
    }
    return json;
  }

  Json::Object object(int depth) {
    Json::Object members;
    std::unordered_set<std::string> keys;
    expect('{');
    skip_space();
    if (peek() == '}') {
      ++pos_;
      return members;
    }
    for (;;) {
      skip_space();
      if (peek() != '"') fail("expected a key");
      std::string key = string();
      if (!keys.insert(key).second) fail(concat("the key \"", key, "\" comes twice"));
      skip_space();
      expect(':');
      members.emplace_back(std::move(key), value(depth + 1));
      skip_space();
      if (peek() == '}') {
        ++pos_;
        return members;
      }
      expect(',');
    }
  }

  Json::Array array(int depth) {
    Json::Array items;
    expect('[');
    skip_space();
    if (peek() == ']') {
      ++pos_;
      return items;
    }
    for (;;) {
      items.push_back(value(depth + 1));
      skip_space();
      if (peek() == ']') {
        ++pos_;
        return items;
      }
      expect(',');
    }
  }

  void digits() {
    if (peek() < '0' || peek() > '9') fail("expected a digit");
    while (peek() >= '0' && peek() <= '9') ++pos_;
  }

  void number(Json* json) {
    const size_t begin = pos_;
    bool is_integer = true;
    if (peek() == '-') ++pos_;
    if (peek() == '0') {
      ++pos_;
      if (peek() >= '0' && peek() <= '9') fail("a number may not begin with 0");
    } else {
      digits();
    }
    if (peek() == '.') {
      is_integer = false;
      ++pos_;
      digits();
    }
    if (peek() == 'e' || peek() == 'E') {
      is_integer = false;
      ++pos_;
      if (peek() == '+' || peek() == '-') ++pos_;
      digits();
    }
    const char* first = text_.data() + begin;
    const char* last = text_.data() + pos_;
    if (is_integer) {
      int64_t integer = 0;
      if (std::from_chars(first, last, integer).ec != std::errc()) fail("integer out of range");
      json->value_ = integer;
    } else {
      double real = 0;
      if (std::from_chars(first, last, real).ec != std::errc()) fail("number out of range");
      json->value_ = real;
    }
  }

  std::string string() {
    std::string out;
    expect('"');
    for (;;) {
      if (at_end()) fail("the text ends inside a string");
      const auto byte = static_cast<unsigned char>(text_[pos_]);
      if (byte == '"') {
        ++pos_;
        return out;
      }
      if (byte < 0x20) fail("control character in a string");
      if (byte == '\\') {
        ++pos_;
        escape(&out);
      } else if (byte < 0x80) {
        out.push_back(text_[pos_++]);
      } else {
        utf8(&out);
      }
    }
  }

  void escape(std::string* out) {
    const char kind = peek();
    ++pos_;
    switch (kind) {
      case '"':
      case '\\':
      case '/':
        out->push_back(kind);
        return;
      case 'b':
        out->push_back('\b');
        return;
      case 'f':
        out->push_back('\f');
        return;
      case 'n':
        out->push_back('\n');
        return;
      case 'r':
        out->push_back('\r');
        return;
      case 't':
        out->push_back('\t');
        return;
      case 'u':
        append_code_point(unicode_escape(), out);
        return;
      default:
        --pos_;
        fail("unknown escape");
    }
  }

  uint32_t hex4() {
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = peek();
      uint32_t digit = 0;
      if (c >= '0' && c <= '9') {
        digit = static_cast<uint32_t>(c - '0');
      } else if (c >= 'a' && c <= 'f') {
        digit = static_cast<uint32_t>(c - 'a' + 10);
      } else if (c >= 'A' && c <= 'F') {
        digit = static_cast<uint32_t>(c - 'A' + 10);
      } else {
        fail("expected four hexadecimal digits");
      }
      code = code * 16 + digit;
      ++pos_;
    }
    return code;
  }

  uint32_t unicode_escape() {
    const uint32_t high = hex4();
    if (high < 0xD800 || high > 0xDFFF) return high;
    if (high > 0xDBFF || !take_word("\\u")) fail("lone surrogate");
    const uint32_t low = hex4();
    if (low < 0xDC00 || low > 0xDFFF) fail("lone surrogate");
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
  }

  static void append_code_point(uint32_t code, std::string* out) {
    const auto put = [out](uint32_t byte) { out->push_back(static_cast<char>(byte)); };
    if (code < 0x80) {
      put(code);
    } else if (code < 0x800) {
      put(0xC0 | (code >> 6));
      put(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
      put(0xE0 | (code >> 12));
      put(0x80 | ((code >> 6) & 0x3F));
      put(0x80 | (code & 0x3F));
    } else {
      put(0xF0 | (code >> 18));
      put(0x80 | ((code >> 12) & 0x3F));
      put(0x80 | ((code >> 6) & 0x3F));
      put(0x80 | (code & 0x3F));
    }
  }

  // One well-formed sequence: no overlong form, no surrogate, nothing past U+10FFFF.
  void utf8(std::string* out) {
    const auto at = [this](size_t i) -> uint32_t {
      return pos_ + i < text_.size() ? static_cast<unsigned char>(text_[pos_ + i]) : 0;
    };
    const uint32_t lead = at(0);
    const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    uint32_t code = lead & (0xFFU >> (length + 1));
    for (size_t i = 1; i < length; ++i) {
      if ((at(i) & 0xC0) != 0x80) fail("not UTF-8");
      code = (code << 6) | (at(i) & 0x3F);
    }
    const uint32_t least = length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000;
    if (lead < 0xC2 || lead > 0xF4 || code < least || code > 0x10FFFF ||
        (code >= 0xD800 && code <= 0xDFFF)) {
      fail("not UTF-8");
    }
    out->append(text_.substr(pos_, length));
    pos_ += length;
  }

  std::string_view text_;
  JsonLimits limits_;
  size_t pos_ = 0;
  size_t num_values_ = 0;
};

Json Json::parse(std::string_view text, const JsonLimits& limits) {
  return JsonParser(text, limits).document();
}

bool Json::as_number(double* value) const {
  if (const int64_t* integer = as_integer()) {
    *value = static_cast<double>(*integer);
    return true;
  }
  if (const double* real = std::get_if<double>(&value_)) {
    *value = *real;
    return true;
  }
  return false;
}

const Json* Json::find(std::string_view key) const {
  if (const Object* object = as_object()) {
    for (const Member& member : *object) {
      if (member.first == key) return &member.second;
    }
  }
  return nullptr;
}

}  // namespace lmrun::base
