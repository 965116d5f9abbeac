#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "base/cpu_features.h"
#include "kernels/cpu/amx.h"
#include "kernels/cpu/avx512.h"

namespace lmrun::kernels::amx {
namespace {

using quant::DigitRows;
using quant::PackedMatrix;
using quant::QuantizedRows;
using quant::WeightFormat;

// A matrix that stays in the second-level cache, and inputs, for both ways to multiply.
constexpr int64_t kFeatures = 128;
constexpr int64_t kInputs = 1024;
constexpr int64_t kGroup = 128;
constexpr int64_t kMostRows = 32;
constexpr int kRuns = 5;

class Sample {
 public:
  Sample(WeightFormat format, int64_t num_digits)
      : weight_(static_cast<size_t>(kFeatures * kInputs)),
        scales_(static_cast<size_t>(kFeatures * kInputs / kGroup)),
        zeros_(scales_.size()),
        x_(static_cast<size_t>(kMostRows * num_digits * quant::quantized_stride(kInputs))),
        units_(static_cast<size_t>(kMostRows * kInputs / kGroup)),
        sums_(static_cast<size_t>(kMostRows)),
        y_(static_cast<size_t>(kMostRows * kFeatures)) {
    w_.format = format;
    w_.n = kFeatures;
    w_.k = kInputs;
    w_.weight = weight_.data();
    w_.scale32 = scales_.data();
    if (format != WeightFormat::kI8) {
      w_.group_size = kGroup;
      w_.zero = zeros_.data();
    }
    digits_ = {x_.data(),         num_digits,    quant::quantized_stride(kInputs),
               w_.block_inputs(), units_.data(), units_.data()};
    codes_ = {x_.data(), quant::quantized_stride(kInputs), units_.data(), sums_.data()};
    uint32_t state = 1;
    const auto next = [&state] { return (state = state * 1664525u + 1013904223u) >> 24; };
    for (std::byte& one : weight_) one = static_cast<std::byte>(next());
    for (size_t i = 0; i < x_.size(); ++i) {
      const bool is_input = static_cast<int64_t>(i) % codes_.stride < kInputs;
      x_[i] = is_input ? static_cast<int8_t>(static_cast<int32_t>(next()) % 255 - 127) : int8_t{0};
    }
    for (uint8_t& one : zeros_) one = static_cast<uint8_t>(next() % 16);
    for (float& one : scales_) one = 0.001f * static_cast<float>(next() + 1);
    for (float& one : units_) one = 0.01f * static_cast<float>(next() + 1);
    for (int32_t& one : sums_) one = static_cast<int32_t>(next());
  }

  // Whether tiles give the bits that they should.
  bool agrees() {
    multiply(false, kMostRows);
    const std::vector<float> wanted = y_;
    multiply(true, kMostRows);
    return std::memcmp(wanted.data(), y_.data(), y_.size() * sizeof(float)) == 0;
  }

  // Seconds of the best of some runs.
  double seconds(bool on_tiles, int64_t rows) {
    using Clock = std::chrono::steady_clock;
    double best = std::numeric_limits<double>::infinity();
    for (int run = 0; run < kRuns; ++run) {
      const auto start = Clock::now();
      multiply(on_tiles, rows);
      best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
    }
    return best;
  }

 private:
  void multiply(bool on_tiles, int64_t rows) {
    if (w_.has_groups()) {
      const auto gemm = on_tiles ? gemm_codes_tiles : avx512::gemm_codes_vnni;
      gemm(w_, digits_, rows, 0, w_.num_tiles(), y_.data(), kFeatures);
    } else {
      const auto gemm = on_tiles ? gemm_i8_tiles : avx512::gemm_i8_vnni;
      gemm(w_, codes_, rows, 0, w_.num_tiles(), y_.data(), kFeatures);
    }
  }

  std::vector<std::byte> weight_;
  std::vector<float> scales_;
  std::vector<uint8_t> zeros_;
  std::vector<int8_t> x_;
  std::vector<float> units_;
  std::vector<int32_t> sums_;
  std::vector<float> y_;
  PackedMatrix w_;
  DigitRows digits_;
  QuantizedRows codes_;
};

int64_t measure(WeightFormat format, int64_t num_digits) {
  Sample sample(format, num_digits);
  // Nobody has seen these kernels on such a CPU yet: they have to give the same bits to be used.
  if (!sample.agrees()) return std::numeric_limits<int64_t>::max();
  for (const int64_t rows : {1, 2, 3, 4, 6, 8, 12, 16, 24}) {
    if (sample.seconds(true, rows) < sample.seconds(false, rows)) return rows;
  }
  return kMostRows;
}

struct Crossovers {
  int64_t u4[quant::kMostDigits];  // by digits, from 1
  int64_t u8[quant::kMostDigits];
  int64_t i8;
};

const Crossovers& crossovers() {
  static const Crossovers kMeasured = [] {
    Crossovers found{};
    for (int64_t digits = 1; digits <= quant::kMostDigits; ++digits) {
      found.u4[digits - 1] = measure(WeightFormat::kU4, digits);
      found.u8[digits - 1] = measure(WeightFormat::kU8, digits);
    }
    found.i8 = measure(WeightFormat::kI8, 1);
    return found;
  }();
  return kMeasured;
}

void gemm_codes(const PackedMatrix& w, const DigitRows& x, int64_t rows, int64_t tile_begin,
                int64_t tile_end, float* y, int64_t ldy) {
  const bool on_tiles = rows >= crossover_rows(w.format, x.num_digits);
  const auto gemm = on_tiles ? gemm_codes_tiles : avx512::gemm_codes_vnni;
  gemm(w, x, rows, tile_begin, tile_end, y, ldy);
}

void gemm_i8(const PackedMatrix& w, const QuantizedRows& x, int64_t rows, int64_t tile_begin,
             int64_t tile_end, float* y, int64_t ldy) {
  const bool on_tiles = rows >= crossover_rows(w.format, 1);
  const auto gemm = on_tiles ? gemm_i8_tiles : avx512::gemm_i8_vnni;
  gemm(w, x, rows, tile_begin, tile_end, y, ldy);
}

}  // namespace

int64_t crossover_rows(WeightFormat format, int64_t num_digits) {
  const Crossovers& found = crossovers();
  if (format == WeightFormat::kI8) return found.i8;
  return (format == WeightFormat::kU4 ? found.u4 : found.u8)[num_digits - 1];
}

const OpTable& ops() {
  static const OpTable kOps = [] {
    OpTable ops = avx512::ops(true);
    ops.isa = Isa::kAmx;
    ops.gemm_codes = gemm_codes;
    ops.gemm_i8 = gemm_i8;
    return ops;
  }();
  (void)base::allow_tiles();  // kernels.cc has asked before
  (void)crossovers();         // now, and not in the first step
  return kOps;
}

}  // namespace lmrun::kernels::amx
