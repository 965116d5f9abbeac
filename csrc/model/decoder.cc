#include "model/decoder.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/concat.h"

namespace lmrun::model {
namespace {

using quant::PackedMatrix;
using quant::WeightFormat;
using workspace::LayerWeights;

// Tiles are handed out in about this many pieces a thread: one that is held up by another process
// loses a piece to its neighbours.
constexpr int64_t kPiecesPerThread = 4;
// Tiles that the kernels like to take side by side.
constexpr int64_t kTilesTogether = 4;
// Attention items that are one row are cut into spans where there are fewer than this many a
// thread.
constexpr int64_t kItemsPerThread = 2;
// Fewer floats than this are not worth waking a thread: about 10 µs of an element-wise op.
constexpr int64_t kFloatsWorthThreads = 16384;

// The largest of a size over all linears.
template <typename Size>
int64_t most(const workspace::Weights& weights, Size&& size) {
  int64_t largest = 0;
  for (const LayerWeights& layer : weights.layers) {
    for (const PackedMatrix* w : {&layer.w_qkv, &layer.wo, &layer.w13, &layer.w2}) {
      largest = std::max(largest, size(*w));
    }
  }
  return largest;
}

int64_t ordered_inputs(const PackedMatrix& w) { return w.num_parts > 0 ? w.k : 0; }

int64_t digit_inputs(const PackedMatrix& w) {
  return w.has_groups() ? quant::quantized_stride(w.k) : 0;
}

int64_t blocks(const PackedMatrix& w) { return w.num_blocks(); }

int64_t int8_inputs(const PackedMatrix& w) {
  return w.format == WeightFormat::kI8 ? quant::quantized_stride(w.k) : 0;
}

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

Decoder::Decoder(const workspace::Workspace& workspace, const kernels::OpTable& ops,
                 base::ThreadPool* pool, const Shape& shape)
    : config_(workspace.config()),
      weights_(workspace.weights()),
      ops_(ops),
      pool_(pool),
      shape_(shape),
      group_(config_.num_heads / config_.num_kv_heads),
      rope_(weights_.inv_freq, config_.head_dim / 2, shape.context_length,
            config_.rope_attention_factor),
      residual_(shape.max_rows * config_.hidden_size),
      normed_(std::max(shape.max_rows, shape.max_logit_rows) * config_.hidden_size),
      qkv_(shape.max_rows * config_.qkv_features()),
      attended_(shape.max_rows * config_.q_features()),
      gate_up_(shape.max_rows * 2 * config_.intermediate_size),
      activated_(shape.max_rows * config_.intermediate_size),
      gathered_(shape.max_rows * most(weights_, ordered_inputs)),
      digits_(shape.max_rows * quant::digits_of(shape.activation_bits) *
              most(weights_, digit_inputs) / int64_t{sizeof(float)}),
      units_(shape.max_rows * most(weights_, blocks)),
      sums_(units_.size()),
      codes_(shape.max_rows * most(weights_, int8_inputs) / int64_t{sizeof(float)}),
      scales_(codes_.size() == 0 ? 0 : shape.max_rows),
      code_sums_(static_cast<size_t>(scales_.size())),
      logits_(shape.max_logit_rows * config_.vocab_size) {
  if (config_.head_dim % 8 != 0) {
    throw base::InvalidArgument(
        base::concat("model: head_dim=", config_.head_dim, ": the engine runs multiples of 8."));
  }
  // A multiple of a cache line, so that threads do not share one.
  scratch_floats_ =
      round_up(kernels::attention_scratch_floats(shape_.kv.front(), group_,
                                                 std::min(kAttentionRows, shape.max_rows)),
               16);
  scratch_ = tensor::FloatBuffer(scratch_floats_ * pool_->num_threads());
  if (pool_->num_threads() > 1) {
    partials_ =
        tensor::FloatBuffer((kItemsPerThread * pool_->num_threads() - 1) *
                            kernels::attention_spans(shape_.context_length) *
                            kernels::attention_partial_floats(shape_.kv.front(), group_, 1));
  }
}

template <typename Body>
void Decoder::for_rows(int64_t rows, int64_t floats_per_row, Body&& body) {
  const int64_t threads = pool_->num_threads();
  if (threads == 1 || rows == 1 || rows * floats_per_row < kFloatsWorthThreads) {
    body(int64_t{0}, rows);
    return;
  }
  const int64_t chunk = std::max<int64_t>(1, rows / (threads * kPiecesPerThread));
  pool_->parallel_for(rows, chunk,
                      [&](int64_t begin, int64_t end, int /*thread*/) { body(begin, end); });
}

void Decoder::norm(const float* x, const float* weight, int64_t rows, float* y) {
  const int64_t n = config_.hidden_size;
  for_rows(rows, n, [&](int64_t begin, int64_t end) {
    ops_.rms_norm(x + begin * n, weight, config_.rms_norm_eps, end - begin, n, y + begin * n);
  });
}

template <typename Body>
void Decoder::for_tiles(int64_t tile_begin, int64_t tile_end, Body&& body) {
  const int64_t tiles = tile_end - tile_begin;
  const int64_t pieces = pool_->num_threads() * kPiecesPerThread;
  int64_t chunk = std::max<int64_t>(1, (tiles + pieces - 1) / pieces);
  if (chunk > kTilesTogether) chunk = round_up(chunk, kTilesTogether);
  pool_->parallel_for(tiles, chunk, [&](int64_t begin, int64_t end, int /*thread*/) {
    body(tile_begin + begin, tile_begin + end);
  });
}

void Decoder::multiply(const PackedMatrix& w, const float* x, int64_t rows, int64_t tile_begin,
                       int64_t tile_end, float* y, int64_t ldy) {
  if (w.format == WeightFormat::kI8) {
    multiply_i8(w, x, rows, tile_begin, tile_end, y, ldy);
  } else if (w.has_groups()) {
    multiply_codes(w, x, rows, tile_begin, tile_end, y, ldy);
  } else {
    for_tiles(tile_begin, tile_end,
              [&](int64_t begin, int64_t end) { ops_.gemm(w, x, rows, begin, end, y, ldy); });
  }
}

void Decoder::multiply_codes(const PackedMatrix& w, const float* x, int64_t rows,
                             int64_t tile_begin, int64_t tile_end, float* y, int64_t ldy) {
  quant::DigitRows split;
  split.digits = reinterpret_cast<int8_t*>(digits_.data());
  split.num_digits = quant::digits_of(shape_.activation_bits);
  split.stride = quant::quantized_stride(w.k);
  split.block = w.block_inputs();
  split.unit = units_.data();
  split.sum = sums_.data();
  for_rows(rows, w.k, [&](int64_t begin, int64_t end) {
    quant::DigitRows part = split;
    part.digits += begin * part.num_digits * part.stride;
    part.unit += begin * w.num_blocks();
    part.sum += begin * w.num_blocks();
    ops_.split_rows(x + begin * w.k, end - begin, w.k, part);
  });
  for_tiles(tile_begin, tile_end, [&](int64_t begin, int64_t end) {
    ops_.gemm_codes(w, split, rows, begin, end, y, ldy);
  });
}

void Decoder::multiply_i8(const PackedMatrix& w, const float* x, int64_t rows, int64_t tile_begin,
                          int64_t tile_end, float* y, int64_t ldy) {
  quant::QuantizedRows quantized;
  quantized.codes = reinterpret_cast<int8_t*>(codes_.data());
  quantized.stride = quant::quantized_stride(w.k);
  quantized.scale = scales_.data();
  quantized.sum = code_sums_.data();
  for_rows(rows, w.k, [&](int64_t begin, int64_t end) {
    quant::QuantizedRows part = quantized;
    part.codes += begin * part.stride;
    part.scale += begin;
    part.sum += begin;
    ops_.quantize_rows(x + begin * w.k, end - begin, w.k, part);
  });
  for_tiles(tile_begin, tile_end, [&](int64_t begin, int64_t end) {
    ops_.gemm_i8(w, quantized, rows, begin, end, y, ldy);
  });
}

void Decoder::linear(const PackedMatrix& w, const float* x, int64_t rows, float* y, int64_t ldy) {
  if (w.num_parts == 0) {
    multiply(w, x, rows, 0, w.num_tiles(), y, ldy);
    return;
  }
  int64_t tile = 0;
  for (int64_t i = 0; i < w.num_parts; ++i) {
    const quant::OrderedPart& part = w.parts[i];
    for_rows(rows, w.k, [&](int64_t begin, int64_t end) {
      ops_.gather(x + begin * w.k, end - begin, w.k, part.order, gathered_.data() + begin * w.k);
    });
    multiply(w, gathered_.data(), rows, tile, part.tile_end, y, ldy);
    tile = part.tile_end;
  }
}

void Decoder::forward(const Batch& batch, std::byte* blocks) {
  const int64_t rows = batch.num_rows();
  const int64_t hidden = config_.hidden_size;
  LMRUN_CHECK(rows <= shape_.max_rows,
              "model: a batch of " << rows << " rows, at most " << shape_.max_rows);
  for_rows(rows, hidden, [&](int64_t begin, int64_t end) {
    ops_.embed(weights_.tok_embeddings, batch.ids.data() + begin, end - begin,
               residual_.data() + begin * hidden);
  });
  plan_attention(batch);
  for (size_t layer = 0; layer < weights_.layers.size(); ++layer) {
    attention_block(weights_.layers[layer], static_cast<int64_t>(layer), batch, blocks);
    feed_forward_block(weights_.layers[layer], rows);
  }
}

void Decoder::attention_block(const LayerWeights& weights, int64_t layer, const Batch& batch,
                              std::byte* blocks) {
  const int64_t rows = batch.num_rows();
  const int64_t hidden = config_.hidden_size;
  norm(residual_.data(), weights.attention_norm, rows, normed_.data());
  linear(weights.w_qkv, normed_.data(), rows, qkv_.data(), config_.qkv_features());
  rotate_and_store(weights, layer, batch, blocks);
  attend(layer, blocks);
  linear(weights.wo, attended_.data(), rows, normed_.data(), hidden);
  for_rows(rows, hidden, [&](int64_t begin, int64_t end) {
    ops_.add(normed_.data() + begin * hidden, (end - begin) * hidden,
             residual_.data() + begin * hidden);
  });
}

void Decoder::feed_forward_block(const LayerWeights& weights, int64_t rows) {
  const int64_t hidden = config_.hidden_size;
  const int64_t inter = config_.intermediate_size;
  norm(residual_.data(), weights.ffn_norm, rows, normed_.data());
  linear(weights.w13, normed_.data(), rows, gate_up_.data(), 2 * inter);
  for_rows(rows, 4 * inter, [&](int64_t begin, int64_t end) {
    ops_.silu_mul(gate_up_.data() + begin * 2 * inter, end - begin, inter,
                  activated_.data() + begin * inter);
  });
  linear(weights.w2, activated_.data(), rows, normed_.data(), hidden);
  for_rows(rows, hidden, [&](int64_t begin, int64_t end) {
    ops_.add(normed_.data() + begin * hidden, (end - begin) * hidden,
             residual_.data() + begin * hidden);
  });
}

void Decoder::rotate_and_store(const LayerWeights& weights, int64_t layer, const Batch& batch,
                               std::byte* blocks) {
  const int64_t dim = config_.head_dim;
  const int64_t heads = config_.num_heads;
  const int64_t kv_heads = config_.num_kv_heads;
  const int64_t stride = config_.qkv_features();
  const quant::KvLayout& kv = shape_.kv[static_cast<size_t>(layer)];
  const auto store = [&](const SequenceRows& sequence, int64_t row) {
    const int64_t position = batch.positions[static_cast<size_t>(row)];
    std::byte* block = blocks + sequence.block_table[position / kv.block_size] * kv.block_bytes;
    const float* k = qkv_.data() + row * stride + heads * dim;
    for (int64_t head = 0; head < kv_heads; ++head) {
      ops_.kv_write(kv, k + head * dim, k + (kv_heads + head) * dim, block + kv.head_offset(head),
                    position % kv.block_size);
    }
  };
  for_rows(batch.num_rows(), 2 * stride, [&](int64_t begin, int64_t end) {
    float* x = qkv_.data() + begin * stride;
    if (weights.q_norm != nullptr) {
      for (int64_t row = 0; row < end - begin; ++row) {
        float* q = x + row * stride;
        float* k = q + heads * dim;
        ops_.rms_norm(q, weights.q_norm, config_.rms_norm_eps, heads, dim, q);
        ops_.rms_norm(k, weights.k_norm, config_.rms_norm_eps, kv_heads, dim, k);
      }
    }
    // q and k heads of a row are neighbours.
    ops_.rope(x, stride, batch.positions.data() + begin, end - begin, heads + kv_heads, dim,
              rope_.cos(), rope_.sin());
    for (const SequenceRows& sequence : batch.sequences) {
      const int64_t first = std::max(begin, sequence.first_row);
      const int64_t last = std::min(end, sequence.first_row + sequence.num_rows);
      for (int64_t row = first; row < last; ++row) store(sequence, row);
    }
  });
}

void Decoder::plan_attention(const Batch& batch) {
  items_.clear();
  for (const SequenceRows& sequence : batch.sequences) {
    for (int64_t first = 0; first < sequence.num_rows; first += kAttentionRows) {
      const int64_t num_rows = std::min(kAttentionRows, sequence.num_rows - first);
      for (int64_t head = 0; head < config_.num_kv_heads; ++head) {
        items_.push_back({&sequence, head, first, num_rows, nullptr});
      }
    }
  }
  // The longest first: the threads end together.
  std::stable_sort(items_.begin(), items_.end(), [](const auto& a, const auto& b) {
    const auto cost = [](const AttentionItem& item) {
      return item.num_rows * (item.sequence->first_position + item.first + item.num_rows);
    };
    return cost(a) > cost(b);
  });
  split_attention();
}

void Decoder::split_attention() {
  const auto num_items = static_cast<int64_t>(items_.size());
  const int64_t threads = pool_->num_threads();
  const bool split = threads > 1 && num_items < kItemsPerThread * threads;
  const int64_t parts = (kPiecesPerThread * threads + num_items - 1) / num_items;
  float* partials = partials_.data();
  tasks_.clear();
  for (int64_t i = 0; i < num_items; ++i) {
    AttentionItem& item = items_[static_cast<size_t>(i)];
    const int64_t spans =
        kernels::attention_spans(item.sequence->first_position + item.first + item.num_rows);
    if (!split || item.num_rows > 1 || spans == 1) {
      tasks_.push_back({i, 0, spans});
      continue;
    }
    item.partials = partials;
    partials += spans * kernels::attention_partial_floats(shape_.kv.front(), group_, 1);
    const int64_t each = (spans + parts - 1) / parts;
    for (int64_t span = 0; span < spans; span += each) {
      tasks_.push_back({i, span, std::min(span + each, spans)});
    }
  }
}

kernels::AttentionArgs Decoder::attention_args(const AttentionItem& item, int64_t layer,
                                               const std::byte* blocks, int thread) {
  const int64_t row = item.sequence->first_row + item.first;
  const int64_t column = item.kv_head * group_ * config_.head_dim;
  kernels::AttentionArgs args{};
  args.layout = &shape_.kv[static_cast<size_t>(layer)];
  args.pool = blocks;
  args.block_table = item.sequence->block_table;
  args.kv_head = item.kv_head;
  args.group = group_;
  args.q_stride = config_.qkv_features();
  args.q = qkv_.data() + row * args.q_stride + column;
  args.out_stride = config_.q_features();
  args.out = attended_.data() + row * args.out_stride + column;
  args.num_rows = item.num_rows;
  args.first_position = item.sequence->first_position + item.first;
  args.scale = config_.attention_scale;
  args.digits = kernels::attention_digits(shape_.activation_bits);
  args.scratch = scratch_.data() + thread * scratch_floats_;
  args.partials = item.partials;
  return args;
}

void Decoder::attend(int64_t layer, std::byte* blocks) {
  const auto run = [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) {
      const AttentionTask& task = tasks_[static_cast<size_t>(i)];
      kernels::AttentionArgs args =
          attention_args(items_[static_cast<size_t>(task.item)], layer, blocks, thread);
      args.span_begin = task.span_begin;
      args.span_end = task.span_end;
      ops_.attention(args);
    }
  };
  pool_->parallel_for(static_cast<int64_t>(tasks_.size()), 1, run);
  for (const AttentionItem& item : items_) {
    if (item.partials != nullptr) ops_.attention_join(attention_args(item, layer, blocks, 0));
  }
}

float* Decoder::logits(std::span<const int32_t> rows) {
  const auto count = static_cast<int64_t>(rows.size());
  const int64_t hidden = config_.hidden_size;
  LMRUN_CHECK(count <= shape_.max_logit_rows,
              "model: logits of " << count << " rows, at most " << shape_.max_logit_rows);
  for_rows(count, hidden, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      ops_.rms_norm(residual_.data() + rows[static_cast<size_t>(i)] * hidden, weights_.norm,
                    config_.rms_norm_eps, 1, hidden, normed_.data() + i * hidden);
    }
  });
  linear(weights_.output, normed_.data(), count, logits_.data(), config_.vocab_size);
  return logits_.data();
}

}  // namespace lmrun::model
