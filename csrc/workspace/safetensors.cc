#include "workspace/safetensors.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "base/check.h"
#include "base/json.h"

namespace lmrun::workspace {
namespace {

using base::Json;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = uint64_t{64} << 20;
constexpr uint64_t kTensorAlignment = 64;
constexpr uint64_t kFileAlignment = uint64_t{2} << 20;
constexpr std::string_view kPadPrefix = "__pad__.";
constexpr size_t kMaxRank = 8;

struct Range {
  uint64_t begin = 0;
  uint64_t end = 0;
  std::string name;
};

uint64_t little_endian(std::span<const std::byte> bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) {
    value |= static_cast<uint64_t>(std::to_integer<uint8_t>(bytes[i])) << (8 * i);
  }
  return value;
}

std::optional<Dtype> parse_dtype(std::string_view name) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kBf16, Dtype::kU8, Dtype::kI32}) {
    if (name == dtype_name(dtype)) return dtype;
  }
  return std::nullopt;
}

// Bytes of the tensor; refuses dimensions below 1 and products that do not fit.
uint64_t checked_bytes(const TensorEntry& entry, const std::string& where) {
  uint64_t total = static_cast<uint64_t>(dtype_bytes(entry.dtype));
  for (const int64_t size : entry.shape) {
    LMRUN_CHECK(size > 0,
                where << ".shape: expected dimensions of at least 1, got " << size << ".");
    LMRUN_CHECK(!__builtin_mul_overflow(total, static_cast<uint64_t>(size), &total),
                where << ".shape: more bytes than a file can hold.");
  }
  return total;
}

uint64_t offset_of(const Json& json, const std::string& where) {
  const int64_t* value = json.as_integer();
  LMRUN_CHECK(value != nullptr && *value >= 0,
              where << ".data_offsets: expected two integers of at least 0.");
  return static_cast<uint64_t>(*value);
}

TensorEntry parse_entry(const Json& json, const std::string& where, Range* range) {
  const Json::Object* object = json.as_object();
  LMRUN_CHECK(object != nullptr && object->size() == 3 && json.find("dtype") != nullptr &&
                  json.find("shape") != nullptr && json.find("data_offsets") != nullptr,
              where << ": expected an object of dtype, shape and data_offsets.");
  TensorEntry entry;
  const std::string* dtype = json.find("dtype")->as_string();
  LMRUN_CHECK(dtype != nullptr, where << ".dtype: expected a string.");
  const auto parsed = parse_dtype(*dtype);
  LMRUN_CHECK(parsed.has_value(),
              where << ".dtype: expected F32, F16, BF16, U8 or I32, got " << *dtype << ".");
  entry.dtype = *parsed;
  const Json::Array* shape = json.find("shape")->as_array();
  LMRUN_CHECK(shape != nullptr && !shape->empty() && shape->size() <= kMaxRank,
              where << ".shape: expected 1 to " << kMaxRank << " integers.");
  for (const Json& size : *shape) {
    LMRUN_CHECK(size.as_integer() != nullptr, where << ".shape: expected integers.");
    entry.shape.push_back(*size.as_integer());
  }
  const Json::Array* offsets = json.find("data_offsets")->as_array();
  LMRUN_CHECK(offsets != nullptr && offsets->size() == 2,
              where << ".data_offsets: expected two integers of at least 0.");
  range->begin = offset_of((*offsets)[0], where);
  range->end = offset_of((*offsets)[1], where);
  const uint64_t bytes = checked_bytes(entry, where);
  LMRUN_CHECK(range->end >= range->begin && range->end - range->begin == bytes,
              where << ".data_offsets: expected " << bytes << " bytes for its shape, got "
                    << range->begin << " to " << range->end << ".");
  return entry;
}

// Sorted ranges follow each other without a hole and end where the file ends.
void check_ranges(std::vector<Range>* ranges, uint64_t data_begin, uint64_t data_bytes,
                  const std::string& where) {
  std::sort(ranges->begin(), ranges->end(),
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  uint64_t expected = 0;
  for (const Range& range : *ranges) {
    LMRUN_CHECK(range.begin == expected, where << ": " << range.name << ": starts at byte "
                                               << range.begin << " of the data, expected "
                                               << expected << ": tensors must be contiguous.");
    LMRUN_CHECK(range.end <= data_bytes, where << ": " << range.name << ": ends at byte "
                                               << range.end << " of the data, which has "
                                               << data_bytes << ": the file is truncated.");
    LMRUN_CHECK(
        range.name.starts_with(kPadPrefix) || (data_begin + range.begin) % kTensorAlignment == 0,
        where << ": " << range.name << ": starts at byte " << data_begin + range.begin
              << " of the file, expected a multiple of " << kTensorAlignment << ".");
    expected = range.end;
  }
  LMRUN_CHECK(expected == data_bytes, where << ": the tensors end at byte " << expected
                                            << " of the data, which has " << data_bytes << ".");
}

}  // namespace

const char* dtype_name(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32:
      return "F32";
    case Dtype::kF16:
      return "F16";
    case Dtype::kBf16:
      return "BF16";
    case Dtype::kU8:
      return "U8";
    case Dtype::kI32:
      return "I32";
  }
  return "";
}

int64_t dtype_bytes(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32:
    case Dtype::kI32:
      return 4;
    case Dtype::kF16:
    case Dtype::kBf16:
      return 2;
    case Dtype::kU8:
      return 1;
  }
  return 0;
}

TensorIndex read_safetensors(std::span<const std::byte> file, const std::string& where) {
  LMRUN_CHECK(file.size() >= kLengthBytes,
              where << ": " << file.size() << " bytes: too short for a safetensors file.");
  const uint64_t header_bytes = little_endian(file);
  LMRUN_CHECK(header_bytes <= kMaxHeaderBytes && header_bytes <= file.size() - kLengthBytes,
              where << ": header of " << header_bytes << " bytes in a file of " << file.size()
                    << ": truncated or not a safetensors file.");
  const auto* text = reinterpret_cast<const char*>(file.data() + kLengthBytes);
  Json header;
  try {
    header = Json::parse({text, header_bytes});
  } catch (const base::Error& error) {
    throw base::Error(where + ": header: " + error.what());
  }
  LMRUN_CHECK(header.as_object() != nullptr, where << ": header: expected an object.");
  const uint64_t data_begin = kLengthBytes + header_bytes;
  const std::span<const std::byte> data = file.subspan(data_begin);
  std::vector<Range> ranges;
  std::vector<TensorEntry> entries;
  for (const Json::Member& member : *header.as_object()) {
    if (member.first == "__metadata__") continue;
    Range range;
    range.name = member.first;
    entries.push_back(parse_entry(member.second, where + ": " + member.first, &range));
    ranges.push_back(range);
  }
  std::vector<Range> sorted = ranges;
  check_ranges(&sorted, data_begin, data.size(), where);
  LMRUN_CHECK(file.size() % kFileAlignment == 0, where << ": " << file.size()
                                                       << " bytes: expected a multiple of "
                                                       << kFileAlignment << ".");
  TensorIndex index;
  for (size_t i = 0; i < ranges.size(); ++i) {
    if (ranges[i].name.starts_with(kPadPrefix)) continue;
    entries[i].bytes = data.subspan(ranges[i].begin, ranges[i].end - ranges[i].begin);
    index.emplace(ranges[i].name, std::move(entries[i]));
  }
  return index;
}

}  // namespace lmrun::workspace
