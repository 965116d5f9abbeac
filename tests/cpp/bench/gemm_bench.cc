// gemm per format, rows and threads, beside the read bandwidth of the same
// minute. Shape: the gate and up projection of TinyLlama, K = 2048, N = 2 *
// 5632. Prints the best of several runs.
//   gemm_bench [isa] [runs] [format, or how it begins] [most rows]
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "kernels/kernels.h"

namespace {

using lmrun::kernels::OpTable;
using lmrun::quant::DigitRows;
using lmrun::quant::PackedMatrix;
using lmrun::quant::QuantizedRows;
using lmrun::quant::WeightFormat;

constexpr int64_t kInputs = 2048;
constexpr int64_t kOutputs = 2 * 5632;
constexpr int64_t kGroup = 128;

// Seconds of the slowest thread in the best of `runs` short runs, all started
// together: on a machine that others use too, a short run is more often left
// alone. work(run, thread).
double best_seconds(int runs, int threads, const std::function<void(int, int)>& work) {
  using Clock = std::chrono::steady_clock;
  std::barrier gate(threads);
  std::vector<std::vector<double>> seconds(static_cast<size_t>(threads));
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t) {
    pool.emplace_back([&, t] {
      for (int run = 0; run < runs; ++run) {
        gate.arrive_and_wait();
        const auto start = Clock::now();
        work(run, t);
        const std::chrono::duration<double> taken = Clock::now() - start;
        seconds[static_cast<size_t>(t)].push_back(taken.count());
      }
    });
  }
  for (std::thread& thread : pool) thread.join();
  double best = 1e9;
  for (size_t run = 0; run < static_cast<size_t>(runs); ++run) {
    double slowest = 0;
    for (const auto& of_thread : seconds) slowest = std::max(slowest, of_thread[run]);
    best = std::min(best, slowest);
  }
  return best;
}

// 2 MiB aligned, huge pages asked for, every page touched.
std::byte* allocate(size_t bytes) {
  constexpr size_t kHugePage = size_t{2} << 20;
  auto* memory = static_cast<std::byte*>(
      std::aligned_alloc(kHugePage, (bytes + kHugePage - 1) / kHugePage * kHugePage));
  madvise(memory, bytes, MADV_HUGEPAGE);
  uint32_t state = 1;
  for (size_t i = 0; i < bytes; i += 4) {
    state = state * 1664525 + 1013904223;
    std::memcpy(memory + i, &state, 4);
  }
  return memory;
}

uint64_t read_all(const std::byte* memory, size_t bytes) {
  uint64_t sums[8] = {};
  for (size_t i = 0; i < bytes; i += 64) {
    __builtin_prefetch(memory + i + 4096);
    uint64_t words[8];
    std::memcpy(words, memory + i, 64);
    for (int j = 0; j < 8; ++j) sums[j] += words[j];
  }
  uint64_t total = 0;
  for (const uint64_t sum : sums) total += sum;
  return total;
}

struct Case {
  const char* name;
  WeightFormat format;
  int64_t digits;
};

void bench(const OpTable& ops, const Case& c, const std::byte* memory, size_t memory_bytes,
           int runs, int64_t most_rows) {
  PackedMatrix w;
  w.format = c.format;
  w.n = kOutputs;
  w.k = kInputs;
  std::vector<uint16_t> scale;
  std::vector<uint8_t> zero;
  if (w.has_groups()) {
    w.group_size = kGroup;
    scale.assign(static_cast<size_t>(kOutputs * kInputs / kGroup), 0x2000);
    zero.assign(static_cast<size_t>(kOutputs * kInputs / kGroup), 8);
    w.scale16 = scale.data();
    w.zero = zero.data();
  }
  const bool is_i8 = c.format == WeightFormat::kI8;
  const std::vector<float> row_scales(static_cast<size_t>(is_i8 ? kOutputs : 0), 0.01f);
  if (is_i8) w.scale32 = row_scales.data();
  const int64_t weight_bytes = w.num_tiles() * w.tile_bytes();
  const int64_t read_bytes =
      weight_bytes + static_cast<int64_t>(scale.size() * 2 + zero.size() + row_scales.size() * 4);
  // Several matrices in turn, so that the third-level cache holds none of them.
  const int64_t copies = std::max<int64_t>(1, static_cast<int64_t>(memory_bytes) / weight_bytes);
  for (const int threads : {1, 2}) {
    for (const int64_t rows : {1, 2, 4, 8, 16, 64, 512}) {
      if (rows > most_rows) break;
      if (rows > 64 && !is_i8 && !w.has_groups()) continue;
      // Many rows take milliseconds: a slice of the features, so that a run is
      // short.
      const int64_t slices = rows >= 64 ? 16 : rows >= 8 ? 4 : 1;
      std::vector<float> x(static_cast<size_t>(rows * kInputs), 0.5f);
      std::vector<float> y(static_cast<size_t>(rows * kOutputs));
      const int64_t stride = lmrun::quant::quantized_stride(kInputs);
      std::vector<int8_t> codes(static_cast<size_t>(rows * stride * lmrun::quant::kMostDigits));
      std::vector<float> scales(static_cast<size_t>(rows * kInputs / kGroup));
      std::vector<int32_t> code_sums(static_cast<size_t>(rows));
      std::vector<float> digit_sums(scales.size());
      const QuantizedRows quantized = {codes.data(), stride, scales.data(), code_sums.data()};
      const DigitRows split = {codes.data(),     c.digits,      stride,
                               w.block_inputs(), scales.data(), digit_sums.data()};
      if (is_i8) ops.quantize_rows(x.data(), rows, kInputs, quantized);
      if (w.has_groups()) ops.split_rows(x.data(), rows, kInputs, split);
      const double each = best_seconds(runs, threads, [&](int run, int t) {
        PackedMatrix part = w;
        part.weight = memory + run % copies * weight_bytes;
        const int64_t tiles = w.num_tiles() / slices;
        if (is_i8) {
          ops.gemm_i8(part, quantized, rows, tiles * t / threads, tiles * (t + 1) / threads,
                      y.data(), kOutputs);
          return;
        }
        if (w.has_groups()) {
          ops.gemm_codes(part, split, rows, tiles * t / threads, tiles * (t + 1) / threads,
                         y.data(), kOutputs);
          return;
        }
        ops.gemm(part, x.data(), rows, tiles * t / threads, tiles * (t + 1) / threads, y.data(),
                 kOutputs);
      });
      std::printf("%-6s threads %d rows %3ld: %8.1f us  %6.1f GB/s  %6.1f GFLOP/s\n", c.name,
                  threads, static_cast<long>(rows), each * 1e6,
                  static_cast<double>(read_bytes / slices) / each / 1e9,
                  2.0 * static_cast<double>(rows * kInputs * kOutputs / slices) / each / 1e9);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string isa = argc > 1 ? argv[1] : "auto";
  const int runs = argc > 2 ? std::atoi(argv[2]) : 100;
  const int64_t most_rows = argc > 4 ? std::atoi(argv[4]) : 512;
  const std::string only = argc > 3 ? argv[3] : "";
  const OpTable& ops = lmrun::kernels::op_table(lmrun::kernels::parse_isa(isa));
  std::printf("isa %s\n", lmrun::kernels::isa_name(ops.isa).c_str());

  constexpr size_t kMemory = size_t{384} << 20;
  const std::byte* memory = allocate(kMemory);
  std::atomic<uint64_t> sink{0};
  for (const int threads : {1, 2}) {
    constexpr size_t kPiece = size_t{16} << 20;
    const double seconds = best_seconds(runs, threads, [&](int run, int t) {
      const size_t share = kPiece / static_cast<size_t>(threads);
      const size_t piece = static_cast<size_t>(run) % (kMemory / kPiece);
      sink += read_all(memory + piece * kPiece + share * static_cast<size_t>(t), share);
    });
    std::printf("read  threads %d: %.1f GB/s\n", threads, kPiece / seconds / 1e9);
  }
  const Case cases[] = {{"u4-32", WeightFormat::kU4, 3},  {"u4-16", WeightFormat::kU4, 2},
                        {"u4-8", WeightFormat::kU4, 1},   {"u8-32", WeightFormat::kU8, 3},
                        {"u8-16", WeightFormat::kU8, 2},  {"u8-8", WeightFormat::kU8, 1},
                        {"i8", WeightFormat::kI8, 0},     {"f16", WeightFormat::kF16, 0},
                        {"bf16", WeightFormat::kBf16, 0}, {"f32", WeightFormat::kF32, 0}};
  for (const Case& c : cases) {
    if (only.empty() || std::string(c.name).rfind(only, 0) == 0)
      bench(ops, c, memory, kMemory, runs, most_rows);
  }
  return sink == 1 ? 1 : 0;
}
