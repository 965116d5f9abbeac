// Where a decode step of the TinyLlama shape goes: attention of all layers per context, bits and
// threads, beside the time that its weights take. Prints the best of many short passes.
//   attention_bench [isa] [seconds a case] [context]
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "engine/ceilings.h"

namespace {

using lmrun::engine::AttentionCase;
using lmrun::engine::AttentionSpeed;
using lmrun::engine::GemmCase;

constexpr int64_t kLayers = 22;
constexpr int64_t kKvHeads = 4;
constexpr int64_t kGroup = 8;
constexpr int64_t kHeadDim = 64;
constexpr int64_t kHidden = 2048;
constexpr int64_t kIntermediate = 5632;
constexpr int64_t kVocabulary = 32000;

double weights_seconds(const std::string& isa, int64_t threads, double seconds) {
  GemmCase wanted;
  wanted.isa = isa;
  wanted.format = "u4";
  wanted.threads = threads;
  wanted.rows = 1;
  wanted.n = 2 * kIntermediate;
  wanted.k = kHidden;
  wanted.group_size = 128;
  wanted.bytes = int64_t{256} << 20;
  wanted.seconds = seconds;
  const double weights = kLayers * (kHidden * (kHidden + 2 * kKvHeads * kHeadDim) +
                                    kHidden * kHidden + 3 * kHidden * kIntermediate) +
                         kVocabulary * kHidden;
  const double bytes = weights * (0.5 + 3.0 / 128);
  return bytes / lmrun::engine::measure_gemm(wanted).bytes_per_s;
}

void bench(AttentionCase wanted, const char* name) {
  const AttentionSpeed speed = lmrun::engine::measure_attention(wanted);
  const auto rows = static_cast<double>(wanted.rows);
  const double positions =
      rows * static_cast<double>(wanted.context - wanted.rows) + rows * (rows + 1) / 2;
  const double flops =
      4.0 * static_cast<double>(wanted.num_layers * kKvHeads * kGroup) * kHeadDim * positions;
  const double seconds = flops / speed.flops_per_s;
  std::printf(
      "%s threads %ld kv %2ld context %4ld rows %3ld: %7.3f ms a layer %7.2f ms a step  "
      "%6.1f GFLOP/s\n",
      name, static_cast<long>(wanted.threads), static_cast<long>(wanted.kv_bits),
      static_cast<long>(wanted.context), static_cast<long>(wanted.rows),
      seconds * 1e3 / static_cast<double>(wanted.num_layers),
      seconds * 1e3 / static_cast<double>(wanted.num_layers) * kLayers, speed.flops_per_s / 1e9);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string isa = argc > 1 ? argv[1] : "auto";
  const double seconds = argc > 2 ? std::atof(argv[2]) : 0.3;
  const int64_t only = argc > 3 ? std::atoll(argv[3]) : 0;
  for (const int64_t threads : {1, 2}) {
    std::printf("weights threads %ld: %.2f ms a step\n", static_cast<long>(threads),
                1e3 * weights_seconds(isa, threads, seconds));
    AttentionCase wanted;
    wanted.isa = isa;
    wanted.threads = threads;
    wanted.num_layers = kLayers;
    wanted.num_kv_heads = kKvHeads;
    wanted.group = kGroup;
    wanted.head_dim = kHeadDim;
    wanted.seconds = seconds;
    for (const int64_t bits : {16, 8, 4}) {
      wanted.kv_bits = bits;
      for (const int64_t context : {512, 2048, 4096}) {
        if (only != 0 && context != only) continue;
        wanted.context = context;
        wanted.rows = 1;
        bench(wanted, "decode ");
      }
      wanted.context = 2048;
      wanted.rows = 64;
      bench(wanted, "prefill");
    }
  }
  return 0;
}
