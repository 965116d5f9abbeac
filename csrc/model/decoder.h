// A Llama-family decoder: token ids of a step in, hidden states and logits out.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "model/rope.h"
#include "quant/layout.h"
#include "tensor/float_buffer.h"
#include "workspace/workspace.h"

namespace lmrun::model {

// The rows of one sequence: neighbours in the batch and in position.
struct SequenceRows {
  int64_t first_row = 0;
  int64_t num_rows = 0;
  int64_t first_position = 0;
  const int32_t* block_table = nullptr;  // covers positions up to the last row's
};

struct Batch {
  std::span<const int32_t> ids;        // one a row, each in [0, V)
  std::span<const int32_t> positions;  // one a row, each below context_length
  std::span<const SequenceRows> sequences;

  int64_t num_rows() const { return static_cast<int64_t>(ids.size()); }
};

struct Shape {
  std::vector<quant::KvLayout> kv;  // one a layer
  int64_t max_rows = 0;             // rows of a batch
  int64_t max_logit_rows = 0;       // rows of one call of `logits`
  int64_t context_length = 0;
  int64_t activation_bits = 32;  // of the inputs of matrices of codes: 32, 16 or 8
};

class Decoder {
 public:
  // `workspace` and `pool` outlive this. All memory for activations is reserved here. Throws
  // base::InvalidArgument for a model that the ops cannot run.
  Decoder(const workspace::Workspace& workspace, const kernels::OpTable& ops,
          base::ThreadPool* pool, const Shape& shape);

  // Runs all layers for the rows of a batch; their K and V are written to the blocks at `blocks`
  // and read back from there.
  void forward(const Batch& batch, std::byte* blocks);

  // Logits [rows.size(), V] of rows of the last batch, at most max_logit_rows; overwritten by the
  // next call.
  float* logits(std::span<const int32_t> rows);

 private:
  // Query rows of one attention item: a dequantized chunk serves them all.
  static constexpr int64_t kAttentionRows = 16;

  struct AttentionItem {
    const SequenceRows* sequence;
    int64_t kv_head;
    int64_t first;  // row in the sequence
    int64_t num_rows;
    float* partials;  // where its spans are left, or null
  };

  // What a thread takes of it: all, or some spans.
  struct AttentionTask {
    int64_t item;
    int64_t span_begin;
    int64_t span_end;
  };

  void attention_block(const workspace::LayerWeights& weights, int64_t layer, const Batch& batch,
                       std::byte* blocks);
  void feed_forward_block(const workspace::LayerWeights& weights, int64_t rows);
  // y = w · x for all rows; x is gathered first where the columns of w are permuted.
  void linear(const quant::PackedMatrix& w, const float* x, int64_t rows, float* y, int64_t ldy);
  // Tiles [tile_begin, tile_end) of it, split across threads; x in the order of the columns.
  void multiply(const quant::PackedMatrix& w, const float* x, int64_t rows, int64_t tile_begin,
                int64_t tile_end, float* y, int64_t ldy);
  void multiply_codes(const quant::PackedMatrix& w, const float* x, int64_t rows,
                      int64_t tile_begin, int64_t tile_end, float* y, int64_t ldy);
  void multiply_i8(const quant::PackedMatrix& w, const float* x, int64_t rows, int64_t tile_begin,
                   int64_t tile_end, float* y, int64_t ldy);
  // Calls body(begin, end) for ranges of the tiles, on all threads.
  template <typename Body>
  void for_tiles(int64_t tile_begin, int64_t tile_end, Body&& body);
  void norm(const float* x, const float* weight, int64_t rows, float* y);
  // Rotates q and k of the rows and writes k and v of the rows to the cache.
  void rotate_and_store(const workspace::LayerWeights& weights, int64_t layer, const Batch& batch,
                        std::byte* blocks);
  void plan_attention(const Batch& batch);
  // Cuts long contexts into spans where there are fewer items than threads could use.
  void split_attention();
  void attend(int64_t layer, std::byte* blocks);
  kernels::AttentionArgs attention_args(const AttentionItem& item, int64_t layer,
                                        const std::byte* blocks, int thread);
  // Calls body(begin, end) for ranges of rows, on several threads where they hold enough floats.
  template <typename Body>
  void for_rows(int64_t rows, int64_t floats_per_row, Body&& body);

  const workspace::ModelConfig& config_;
  const workspace::Weights& weights_;
  const kernels::OpTable& ops_;
  base::ThreadPool* pool_;
  Shape shape_;
  int64_t group_;  // query heads that share a KV head
  RopeTables rope_;
  tensor::FloatBuffer residual_;    // [rows, hidden]
  tensor::FloatBuffer normed_;      // [rows, hidden]
  tensor::FloatBuffer qkv_;         // [rows, (H + 2 Hk) D]
  tensor::FloatBuffer attended_;    // [rows, H D]
  tensor::FloatBuffer gate_up_;     // [rows, 2 intermediate]
  tensor::FloatBuffer activated_;   // [rows, intermediate]
  tensor::FloatBuffer gathered_;    // [rows, most inputs of a matrix with an order]
  tensor::FloatBuffer digits_;      // int8: [rows, digits, most stride of a matrix of codes]
  tensor::FloatBuffer units_;       // [rows, most blocks]: of the digits
  tensor::FloatBuffer sums_;        // [rows, most blocks]: of the digits
  tensor::FloatBuffer codes_;       // int8: [rows, most stride of a kI8 matrix]
  tensor::FloatBuffer scales_;      // [rows]: of the codes
  std::vector<int32_t> code_sums_;  // [rows]
  tensor::FloatBuffer logits_;      // [max_logit_rows, V]
  tensor::FloatBuffer scratch_;     // of attention, one part a thread
  int64_t scratch_floats_ = 0;
  tensor::FloatBuffer partials_;  // of attention, where contexts are split
  std::vector<AttentionItem> items_;
  std::vector<AttentionTask> tasks_;
};

}  // namespace lmrun::model
