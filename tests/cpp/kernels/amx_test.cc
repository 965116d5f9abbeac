// The tile kernels: with the real instructions where the machine has them, else with the emulated
// ones, which take microseconds each: shapes are few. Where the machine has AMX, gemm_test.cc and
// gemm_i8_test.cc run theirs too.
#if defined(__x86_64__) && defined(__linux__)

#include "kernels/cpu/amx.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <tuple>
#include <vector>

#include "base/cpu_features.h"
#include "kernels/cpu/avx512.h"
#include "kernels/cpu/tiles_amx.h"
#include "kernels/emulated_tiles.h"
#include "kernels/random_inputs.h"

namespace lmrun::kernels::testing {
namespace {

bool has_amx() {
  return base::detect_cpu_features().missing_for_amx().empty() && base::allow_tiles();
}

// The kernels around the tiles, and what they are compared with, need these.
bool has_avx512_vnni() {
  const base::CpuFeatures cpu = base::detect_cpu_features();
  return cpu.missing_for_avx512().empty() && cpu.avx512vnni;
}

// Tile instructions run while it lives.
class Tiles {
 public:
  Tiles() {
    if (!has_amx()) emulated_ = std::make_unique<EmulatedTiles>();
  }

 private:
  std::unique_ptr<EmulatedTiles> emulated_;
};

TEST_CASE("a product of tiles sums up signed times unsigned bytes, four a word, and wraps") {
  const Tiles tiles;
  std::mt19937 generator(3);
  for (const auto& [rows, inputs, features] : {std::tuple<int64_t, int64_t, int64_t>{16, 64, 16},
                                               {1, 4, 1},
                                               {15, 40, 16},
                                               {7, 64, 3},
                                               {16, 8, 16}}) {
    for (const bool extreme : {false, true}) {
      std::vector<int8_t> a(static_cast<size_t>(rows * 100), 99);
      std::vector<uint8_t> b(static_cast<size_t>(inputs / 4 * 80), 99);
      for (int64_t m = 0; m < rows; ++m) {
        for (int64_t k = 0; k < inputs; ++k) {
          a[static_cast<size_t>(m * 100 + k)] =
              extreme ? (m % 2 == 0 ? -128 : 127) : static_cast<int8_t>(generator());
        }
      }
      for (int64_t k = 0; k < inputs; ++k) {
        for (int64_t n = 0; n < features; ++n) {
          b[static_cast<size_t>(k / 4 * 80 + 4 * n + k % 4)] =
              extreme ? 255 : static_cast<uint8_t>(generator());
        }
      }
      std::vector<int32_t> sums(static_cast<size_t>(rows * 20), 7);
      sums[0] = extreme ? INT32_MIN : 11;  // what a first product of 1 x 1 is added to
      const std::vector<int32_t> before = sums;
      amx::TileConfig config = {};
      config.palette = 1;
      config.rows[2] = config.rows[4] = static_cast<uint8_t>(rows);
      config.row_bytes[4] = static_cast<uint16_t>(inputs);
      config.rows[7] = static_cast<uint8_t>(inputs / 4);
      config.row_bytes[2] = config.row_bytes[7] = static_cast<uint16_t>(4 * features);
      amx::configure_tiles(config);
      amx::zero_tile<2>();
      amx::load_tile<2>(sums.data(), 80);
      amx::load_tile<4>(a.data(), 100);
      amx::load_tile<7>(b.data(), 80);
      amx::multiply_tiles<2, 4, 7>();
      amx::store_tile<2>(sums.data(), 80);
      amx::release_tiles();
      CHECK((has_amx() || EmulatedTiles::count() >= 8));
      for (int64_t m = 0; m < rows; ++m) {
        for (int64_t n = 0; n < 20; ++n) {
          const auto at = static_cast<size_t>(m * 20 + n);
          auto expected = static_cast<uint32_t>(before[at]);
          for (int64_t k = 0; n < features && k < inputs; ++k) {
            expected += static_cast<uint32_t>(a[static_cast<size_t>(m * 100 + k)] *
                                              b[static_cast<size_t>(k / 4 * 80 + 4 * n + k % 4)]);
          }
          CHECK(sums[at] == static_cast<int32_t>(expected));
        }
      }
    }
  }
}

TEST_CASE("a tile set to zero holds zeros, and each thread has tiles of its own") {
  const Tiles tiles;
  const auto work = [](int32_t value) {
    std::vector<int32_t> words(256, value);
    amx::TileConfig config = {};
    config.palette = 1;
    config.rows[0] = config.rows[1] = static_cast<uint8_t>(value);
    config.row_bytes[0] = config.row_bytes[1] = 64;
    for (int i = 0; i < 50; ++i) {
      amx::configure_tiles(config);
      amx::load_tile<0>(words.data(), 64);
      std::vector<int32_t> stored(256, -1);
      amx::store_tile<0>(stored.data(), 64);
      const int64_t used = 16 * value;
      CHECK(std::all_of(stored.begin(), stored.begin() + used, [&](auto v) { return v == value; }));
      CHECK(std::all_of(stored.begin() + used, stored.end(), [](auto v) { return v == -1; }));
      amx::zero_tile<0>();
      amx::store_tile<0>(stored.data(), 64);
      CHECK(std::all_of(stored.begin(), stored.begin() + used, [](auto v) { return v == 0; }));
      amx::store_tile<1>(stored.data(), 64);  // configuring set it to zero
      CHECK(std::all_of(stored.begin(), stored.begin() + used, [](auto v) { return v == 0; }));
      amx::release_tiles();
    }
  };
  std::vector<std::thread> threads;
  for (const int32_t value : {1, 5, 16}) threads.emplace_back(work, value);
  for (std::thread& thread : threads) thread.join();
}

struct CodesShape {
  WeightFormat format;
  int64_t n, k, group;
};

// Products of 64, 56, 40, 24 and 8 inputs, whole and part tiles of features, one stretch of inputs
// and several, a group of more than one block; numbers of tiles that are taken by 4, 2 and 1.
const CodesShape kCodesShapes[] = {
    {WeightFormat::kU4, 117, 192, 64},   {WeightFormat::kU4, 33, 200, 200},
    {WeightFormat::kU4, 18, 72, 24},     {WeightFormat::kU4, 5, 16, 8},
    {WeightFormat::kU4, 20, 2112, 1056}, {WeightFormat::kU4, 35, 1280, 128},
    {WeightFormat::kU8, 117, 128, 128},  {WeightFormat::kU8, 33, 168, 56},
    {WeightFormat::kU8, 17, 1280, 128},  {WeightFormat::kU8, 1, 8, 8},
};

class Digits {
 public:
  Digits(const PackedMatrix& w, int64_t rows, int64_t num_digits, uint32_t seed)
      : digits_(static_cast<size_t>(rows * num_digits * quant::quantized_stride(w.k))),
        unit_(static_cast<size_t>(rows * w.num_blocks())),
        sum_(unit_.size()),
        view_{digits_.data(),   num_digits,   quant::quantized_stride(w.k),
              w.block_inputs(), unit_.data(), sum_.data()} {
    const std::vector<float> x = random_floats(rows * w.k, seed);
    op_table(Isa::kGeneric).split_rows(x.data(), rows, w.k, view_);
  }
  Digits(const Digits&) = delete;
  Digits& operator=(const Digits&) = delete;
  const quant::DigitRows& view() const { return view_; }

 private:
  std::vector<int8_t> digits_;
  std::vector<float> unit_;
  std::vector<float> sum_;
  quant::DigitRows view_;
};

constexpr float kUntouched = 12345.0f;

std::vector<float> multiply(decltype(OpTable::gemm_codes) gemm, const PackedMatrix& w,
                            const quant::DigitRows& x, int64_t rows, int64_t begin, int64_t end) {
  const int64_t ldy = w.n + 3;
  std::vector<float> y(static_cast<size_t>(rows * ldy), kUntouched);
  gemm(w, x, rows, begin, end, y.data(), ldy);
  return y;
}

TEST_CASE("gemm_codes on tiles is the same bits as with VNNI and as the reference") {
  if (!has_avx512_vnni()) return;
  const Tiles tiles;
  for (const CodesShape& shape : kCodesShapes) {
    const TestMatrix w(shape.format, shape.n, shape.k, shape.group, shape.n % 2 == 0, 9);
    const int64_t num_tiles = w.view().num_tiles();
    for (const int64_t num_digits : {1, 2, 3}) {
      for (const int64_t rows : {1, 5, 6, 16, 17, 35}) {
        const Digits x(w.view(), rows, num_digits, 11);
        CAPTURE(format_name(shape.format));
        CAPTURE(shape.k);
        CAPTURE(num_digits);
        CAPTURE(rows);
        const auto run = [&](decltype(OpTable::gemm_codes) gemm) {
          return multiply(gemm, w.view(), x.view(), rows, 0, num_tiles);
        };
        const std::vector<float> y = run(amx::gemm_codes_tiles);
        CHECK(same_bits(y, run(avx512::gemm_codes_vnni)));
        CHECK(same_bits(y, run(op_table(Isa::kGeneric).gemm_codes)));
      }
    }
  }
}

TEST_CASE("gemm_codes on tiles over a range of them writes those features and nothing else") {
  if (!has_avx512_vnni()) return;
  const Tiles tiles;
  const TestMatrix w(WeightFormat::kU4, 117, 64, 32, true, 19);
  for (const int64_t rows : {3, 20}) {
    const Digits x(w.view(), rows, 2, 23);
    for (int64_t begin = 0; begin < w.view().num_tiles(); ++begin) {
      for (int64_t end = begin + 1; end <= w.view().num_tiles(); ++end) {
        CHECK(same_bits(multiply(amx::gemm_codes_tiles, w.view(), x.view(), rows, begin, end),
                        multiply(avx512::gemm_codes_vnni, w.view(), x.view(), rows, begin, end)));
      }
    }
  }
}

TEST_CASE("a row that is not finite gives numbers that are not, and no other row does, on tiles") {
  if (!has_avx512_vnni()) return;
  const Tiles tiles;
  const TestMatrix w(WeightFormat::kU8, 20, 64, 64, false, 29);
  const Digits x(w.view(), 3, 2, 31);
  x.view().unit[1] = x.view().sum[1] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> y = multiply(amx::gemm_codes_tiles, w.view(), x.view(), 3, 0, 2);
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t n = 0; n < 20; ++n) {
      CHECK(std::isfinite(y[static_cast<size_t>(r * 23 + n)]) == (r != 1));
    }
  }
}

TEST_CASE("gemm_i8 on tiles is the same bits as with VNNI") {
  if (!has_avx512_vnni()) return;
  const Tiles tiles;
  for (const auto& [n, k] :
       {std::pair<int64_t, int64_t>{1, 1}, {16, 64}, {33, 96}, {117, 66}, {100, 129}, {20, 1101}}) {
    const TestMatrix w(WeightFormat::kI8, n, k, 0, n % 2 == 0, 7);
    for (const int64_t rows : {1, 5, 16, 17, 35, 70}) {
      const std::vector<float> x = random_floats(rows * k, 11);
      const int64_t stride = quant::quantized_stride(k);
      std::vector<int8_t> codes(static_cast<size_t>(rows * stride), 55);
      std::vector<float> scales(static_cast<size_t>(rows));
      std::vector<int32_t> sums(scales.size());
      const quant::QuantizedRows quantized = {codes.data(), stride, scales.data(), sums.data()};
      op_table(Isa::kGeneric).quantize_rows(x.data(), rows, k, quantized);
      CAPTURE(n);
      CAPTURE(k);
      CAPTURE(rows);
      const int64_t last = w.view().num_tiles();
      for (const int64_t begin : {int64_t{0}, last / 2}) {
        std::vector<float> y(static_cast<size_t>(rows * (n + 3)), kUntouched);
        std::vector<float> expected = y;
        amx::gemm_i8_tiles(w.view(), quantized, rows, begin, last, y.data(), n + 3);
        avx512::gemm_i8_vnni(w.view(), quantized, rows, begin, last, expected.data(), n + 3);
        CHECK(same_bits(y, expected));
      }
    }
  }
}

TEST_CASE("gemm_i8 on tiles sums up the most inputs of the largest codes") {
  if (!has_avx512_vnni()) return;
  const Tiles tiles;
  constexpr int64_t kInputs = quant::kMostI8Inputs;
  const int64_t stride = quant::quantized_stride(kInputs);
  std::vector<uint8_t> weight(static_cast<size_t>(kInputs * 16), 0);  // int8 -128
  const std::vector<float> scales(16, 1.0f);
  PackedMatrix w;
  w.format = WeightFormat::kI8;
  w.n = 16;
  w.k = kInputs;
  w.weight = reinterpret_cast<const std::byte*>(weight.data());
  w.scale32 = scales.data();
  std::vector<int8_t> codes(static_cast<size_t>(stride), 0);
  std::fill_n(codes.begin(), kInputs, int8_t{127});
  float scale = 1.0f;
  auto sum = static_cast<int32_t>(127 * kInputs);
  std::vector<float> y(16);
  amx::gemm_i8_tiles(w, {codes.data(), stride, &scale, &sum}, 1, 0, 1, y.data(), 16);
  CHECK(y[3] == static_cast<float>(-128.0 * 127.0 * kInputs));
}

TEST_CASE("threads multiply on tiles of their own") {
  if (!has_avx512_vnni()) return;
  const Tiles tiles;
  const TestMatrix w(WeightFormat::kU4, 64, 128, 64, false, 9);
  std::vector<std::thread> threads;
  for (const int64_t rows : {2, 9, 20}) {
    threads.emplace_back([&w, rows] {
      for (const int64_t digits : {3, 1, 2}) {
        const Digits x(w.view(), rows, digits, 13);
        CHECK(same_bits(multiply(amx::gemm_codes_tiles, w.view(), x.view(), rows, 0, 4),
                        multiply(avx512::gemm_codes_vnni, w.view(), x.view(), rows, 0, 4)));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_CASE("tiles are chosen from a number of rows on that was measured") {
  if (!has_amx()) return;
  for (const WeightFormat format : {WeightFormat::kU4, WeightFormat::kU8, WeightFormat::kI8}) {
    const int64_t most = format == WeightFormat::kI8 ? 1 : quant::kMostDigits;
    for (int64_t digits = 1; digits <= most; ++digits) {
      CHECK(amx::crossover_rows(format, digits) >= 1);
      CHECK(amx::crossover_rows(format, digits) <= 32);
    }
  }
}

}  // namespace
}  // namespace lmrun::kernels::testing

#endif
