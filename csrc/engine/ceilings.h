// What the ops reach on this machine, by running them on made-up data: `lmrun doctor --measure`.
#pragma once

#include <cstdint>
#include <string>

namespace lmrun::engine {

// A linear as the decoder runs it, over matrices that together take about `bytes`.
struct GemmCase {
  std::string isa;     // "auto" or a name
  std::string format;  // "u4", "u8", "i8", "F16", "BF16", "F32"
  int64_t threads = 1;
  int64_t rows = 1;
  int64_t n = 0;                 // output features
  int64_t k = 0;                 // input features
  int64_t group_size = 0;        // u4 and u8
  int64_t activation_bits = 32;  // u4 and u8: of their inputs, 32, 16 or 8
  int64_t bytes = 0;             // more than the cache holds, or less
  double seconds = 0.1;          // to spend
};

struct GemmSpeed {
  double bytes_per_s = 0;  // codes, scales and zeros
  double flops_per_s = 0;  // a multiply-add counts as two, also of integers
};

// The best of many short passes, the matrices in turn; other work on the machine only ever slows
// one. Throws base::InvalidArgument for a case that is not legal.
GemmSpeed measure_gemm(const GemmCase& wanted);

// Attention of one sequence: a pass is one layer, the layers in turn.
struct AttentionCase {
  std::string isa;
  int64_t threads = 1;
  int64_t kv_bits = 16;
  int64_t rows = 1;  // of the step; they follow `context` - `rows` cached positions
  int64_t context = 0;
  int64_t num_layers = 1;
  int64_t num_kv_heads = 1;
  int64_t group = 1;  // query heads that share a KV head
  int64_t head_dim = 64;
  int64_t activation_bits = 32;  // 32, or 16 or 8: with K and V of codes
  double seconds = 0.1;
};

struct AttentionSpeed {
  double bytes_per_s = 0;  // K and V of the context with their params, once a KV head
  double flops_per_s = 0;  // q k and p v of the positions that each row sees
};

AttentionSpeed measure_attention(const AttentionCase& wanted);

// fp32 operations per second on registers alone, of the widest vectors.
double measure_flops(int threads);

// The same of products of bytes (`int8`) or bfloat16 (`bf16`); see base/peak_products.h.
double measure_products(const std::string& name, int threads);

}  // namespace lmrun::engine
