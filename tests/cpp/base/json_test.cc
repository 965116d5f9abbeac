#include "base/json.h"

#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"

using lmrun::base::Error;
using lmrun::base::Json;

TEST_CASE("values of every kind are read") {
  const Json json = Json::parse(
      R"( {"a": [1, -2, 3.5, 1e2], "b": true, "c": null, "d": "x\n\u00e9\ud83d\ude00é", "e": {}} )");
  const Json::Array& items = *json.find("a")->as_array();
  CHECK(*items[0].as_integer() == 1);
  CHECK(*items[1].as_integer() == -2);
  CHECK(items[2].as_integer() == nullptr);
  double number = 0;
  REQUIRE(items[3].as_number(&number));
  CHECK(number == 100.0);
  CHECK(*json.find("b")->as_bool());
  CHECK(json.find("c")->is_null());
  CHECK(*json.find("d")->as_string() == "x\n\xC3\xA9\xF0\x9F\x98\x80\xC3\xA9");
  CHECK(json.find("e")->as_object()->empty());
  CHECK(json.find("f") == nullptr);
}

TEST_CASE("integers are exact over the whole range") {
  CHECK(*Json::parse("9223372036854775807").as_integer() == std::numeric_limits<int64_t>::max());
  CHECK(*Json::parse("-9223372036854775808").as_integer() == std::numeric_limits<int64_t>::min());
  double number = 0;
  REQUIRE(Json::parse("0.1").as_number(&number));
  CHECK(number == 0.1);
}

TEST_CASE("what is not JSON is refused with its place") {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"", "JSON: line 1, column 1: expected a value."},
      {"{\n \"a\": tru}", "JSON: line 2, column 7: expected a value."},
      {"{\"a\": 1, \"a\": 2}", "JSON: line 1, column 13: the key \"a\" comes twice."},
      {"[1,]", "JSON: line 1, column 4: expected a value."},
      {"[1 2]", "JSON: line 1, column 4: expected ','."},
      {"{a: 1}", "JSON: line 1, column 2: expected a key."},
      {"{\"a\" 1}", "JSON: line 1, column 6: expected ':'."},
      {"1 2", "JSON: line 1, column 3: expected the end of the text."},
      {"01", "JSON: line 1, column 2: a number may not begin with 0."},
      {"1.", "JSON: line 1, column 3: expected a digit."},
      {"-", "JSON: line 1, column 2: expected a digit."},
      {"9223372036854775808", "JSON: line 1, column 20: integer out of range."},
      {"1e999", "JSON: line 1, column 6: number out of range."},
      {"NaN", "JSON: line 1, column 1: expected a value."},
      {"\"a", "JSON: line 1, column 3: the text ends inside a string."},
      {"\"\x01\"", "JSON: line 1, column 2: control character in a string."},
      {"\"\\x\"", "JSON: line 1, column 3: unknown escape."},
      {"\"\\ud800\"", "JSON: line 1, column 8: lone surrogate."},
      {"\"\\u12g4\"", "JSON: line 1, column 6: expected four hexadecimal digits."},
      {"\"\xC0\xAF\"", "JSON: line 1, column 2: not UTF-8."},
      {"\"\xED\xA0\x80\"", "JSON: line 1, column 2: not UTF-8."},
      {"\"\xE2\x82\"", "JSON: line 1, column 2: not UTF-8."},
      {std::string(33, '['), "JSON: line 1, column 33: nested deeper than 32."},
  };
  for (const auto& [text, message] : wrong) {
    CAPTURE(text);
    CHECK_THROWS_WITH_AS(Json::parse(text), message.c_str(), Error);
  }
  CHECK_THROWS_WITH_AS(Json::parse("[1, 2]", {.max_bytes = 4, .max_depth = 9, .max_values = 9}),
                       "JSON: 6 bytes; at most 4.", Error);
  CHECK_THROWS_WITH_AS(Json::parse("[1, 2]", {.max_bytes = 6, .max_depth = 9, .max_values = 2}),
                       "JSON: line 1, column 4: more than 2 values.", Error);
}

TEST_CASE("no prefix of a document is a document") {
  const std::string text = R"({"a": [1, {"b": "cé"}], "d": -1.5e3})";
  for (size_t size = 0; size < text.size(); ++size) {
    CHECK_THROWS_AS(Json::parse(text.substr(0, size)), Error);
  }
}
