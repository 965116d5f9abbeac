// The op table: every op a model calls, once per (device, ISA). The contract blocks here are the
// only description of an op. Shape letters: see the README of this folder.
//
// Checks happen before dispatch; an op assumes its contract. No op allocates, and none knows of
// threads: the caller splits the work, by rows, tiles or heads, never along a sum.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "quant/layout.h"

namespace lmrun::kernels {

enum class Isa : uint8_t { kGeneric, kAvx2, kAvx512, kAmx };

// A block holds a multiple of this many positions.
inline constexpr int64_t kAttentionChunk = quant::kKvKeysTogether;
// A context is cut at multiples of these, whatever the block size: into pieces, which a softmax
// takes in order, and spans of pieces, whose softmaxes are joined in order.
inline constexpr int64_t kAttentionPiece = 64;
inline constexpr int64_t kAttentionSpan = 512;

constexpr int64_t attention_spans(int64_t context) {
  return (context + kAttentionSpan - 1) / kAttentionSpan;
}

// Digits of attention over K and V of codes: what `backend.activation_bits` stands for, and no less
// than two, whose 16 bits are far finer than the codes.
constexpr int64_t attention_digits(int64_t activation_bits) {
  return activation_bits == 32 ? 3 : 2;
}

// The rows of one sequence in a step, for one KV head.
struct AttentionArgs {
  const quant::KvLayout* layout;  // of the layer
  const std::byte* pool;          // block b lies at pool + b * layout->block_bytes
  const int32_t* block_table;     // block of positions [i * P, (i + 1) * P)
  int64_t kv_head;
  int64_t group;   // query heads that share the KV head
  const float* q;  // row r, head h of the group: q + r * q_stride + h * D
  int64_t q_stride;
  float* out;  // the same shape as q, overwritten
  int64_t out_stride;
  int64_t num_rows;
  int64_t first_position;  // position of row 0; row r attends to positions 0 .. first + r
  float scale;             // multiplies q·k
  float* scratch;          // attention_scratch_floats(layout, group, num_rows) floats
  int64_t digits = 3;      // 2 or 3: signed digits of 8 bits for q and the softmax's weights, used
                           // by some ISAs where K and V are codes
  // Null: all of the context, into out. Else: spans [span_begin, span_end) into their places here,
  // for attention_join: attention_partial_floats(layout, group, num_rows) floats a span.
  float* partials = nullptr;
  int64_t span_begin = 0;
  int64_t span_end = 0;
};

struct OpTable {
  Isa isa;

  // embed: y[r, :] = table[ids[r], :]
  //   table [V, K] F32, F16, BF16 tiles;  ids [rows], each in [0, V);  y [rows, K] f32
  void (*embed)(const quant::PackedMatrix& table, const int32_t* ids, int64_t rows, float* y);

  // rms_norm: y[r, :] = x[r, :] / sqrt(mean(x[r, :]^2) + eps) * weight   (Zhang & Sennrich 2019)
  //   x [rows, n], weight [n], y [rows, n] f32; y may be x
  void (*rms_norm)(const float* x, const float* weight, float eps, int64_t rows, int64_t n,
                   float* y);

  // add: y[i] += x[i], i < n
  void (*add)(const float* x, int64_t n, float* y);

  // silu_mul: y[r, i] = silu(x[r, i]) * x[r, inter + i]
  //   x [rows, 2 * inter], y [rows, inter] f32; y is not x
  void (*silu_mul)(const float* x, int64_t rows, int64_t inter, float* y);

  // rope: for each row r and head h, with c = cos[positions[r], i], s = sin[positions[r], i]:
  //       (a, b) = (x[i], x[i + D/2])  ->  (a c - b s, b c + a s), i < D/2    (Su et al. 2021)
  //   x: row r, head h at x + r * stride + h * D, in place;  cos, sin [max_position, D/2] f32
  void (*rope)(float* x, int64_t stride, const int32_t* positions, int64_t rows, int64_t heads,
               int64_t head_dim, const float* cos, const float* sin);

  // gather: y[r, k] = x[r, order[k]];  x, y [rows, K] f32, order [K] in [0, K); y is not x
  void (*gather)(const float* x, int64_t rows, int64_t k, const int32_t* order, float* y);

  // gemm: y[r, n] = sum over k of x[r, k] * w[n, k] + bias[n], in fp32
  //   w     kF32, kF16 or kBf16;  x [rows, K] f32
  //   y     row stride ldy, f32; features of tiles [tile_begin, tile_end) are overwritten, those
  //         past w.n are not touched
  // order: per block of 64 k  acc = sum of x * w  in order of k;  y += acc. It depends on K alone:
  //        the result is the same bits for any rows, tile range or neighbours.
  // cost:  w.tile_bytes() a tile, once for up to 16 rows; bound by bandwidth while rows are few
  void (*gemm)(const quant::PackedMatrix& w, const float* x, int64_t rows, int64_t tile_begin,
               int64_t tile_end, float* y, int64_t ldy);

  // split_rows: each block of each row alone becomes fixed-point numbers, in y.num_digits digits
  //   x [rows, K] f32, in the order of the matrix's columns;  y: all but its arrays is given
  //   most = 127, 32639 or 8355711: the largest number of 1, 2 or 3 digits
  //   largest = max |x| of the block, and no less than 2^-100
  //   1, 2 digits: unit = largest / most;  number = round_half_even(x * (most / largest))
  //   3 digits:    unit = the least power of two with largest <= most * unit;
  //                number = round_half_even(x / unit)
  //   sum = unit * join(sums of each digit), join as in gemm_codes
  //   A block with an element that is not finite has digits 0 and a unit and sum that are NaN.
  //   The same bits on every ISA.
  // needs: K % y.block == 0, y.block % 8 == 0, y.block <= kMostBlockInputs
  void (*split_rows)(const float* x, int64_t rows, int64_t k, const quant::DigitRows& y);

  // gemm_codes: y[r, n] = sum over k of x[r, k] * (code[n, k] - zero[n, k / G]) * scale[n, k / G]
  //                       + bias[n]
  //   w kU4 or kU8;  x [rows, K] from split_rows with w.block_inputs();  y, tiles: as for gemm
  // order: per block b, in order, with dot[d] = sum over k of digit d * code, exact in int32:
  //          join = fma(65536, dot[2], fma(256, dot[1], dot[0])), each dot rounded to f32;
  //                 fewer digits: without the terms that are not there
  //          y = fma(scale, fma(-zero, x.sum[r, b], join * x.unit[r, b]), y),  y = 0 at first
  //        bias last. Sums of integers are exact, so this is the same bits on every ISA, for any
  //        rows, tile range or neighbours.
  // needs: K % G == 0, G % 8 == 0
  // cost:  w.tile_bytes() a tile, once: rows are innermost
  void (*gemm_codes)(const quant::PackedMatrix& w, const quant::DigitRows& x, int64_t rows,
                     int64_t tile_begin, int64_t tile_end, float* y, int64_t ldy);

  // quantize_rows: each row alone, symmetric int8
  //   scale = max |x[r, :]| / 127;  code = clamp(round_half_even(x / scale), -127, 127)
  //   x [rows, K] f32;  y: codes with zeros up to y.stride, scales, sums of codes
  //   A scale of 0 has codes 0; a row with an element that is not finite has codes 0 and a scale
  //   that is not finite. The same bits on every ISA.
  void (*quantize_rows)(const float* x, int64_t rows, int64_t k, const quant::QuantizedRows& y);

  // gemm_i8: y[r, n] = float(sum over k of x[r, k] * (w[n, k] - 128)) * (x.scale[r] * w.scale32[n])
  //                    + bias[n];  the sum in int32, exact, so the same bits on every ISA
  //   w kI8;  x [rows, K] from quantize_rows;  y, tiles: as for gemm
  // needs: K <= kMostI8Inputs
  // cost:  K bytes a feature, once: rows are innermost
  void (*gemm_i8)(const quant::PackedMatrix& w, const quant::QuantizedRows& x, int64_t rows,
                  int64_t tile_begin, int64_t tile_end, float* y, int64_t ldy);

  // kv_write: quantizes one K and one V vector into a block (csrc/cache/README.md)
  //   k, v [D] f32;  head: the block's K part of a layer and head;  slot in [0, P)
  void (*kv_write)(const quant::KvLayout& layout, const float* k, const float* v, std::byte* head,
                   int64_t slot);

  // attention: softmax(scale * q k^T) v over the paged cache, causal. Online softmax (Milakov &
  //            Gimelshein 2018) in pieces of kAttentionPiece positions within a span, the spans
  //            joined in order likewise; so each row's result is the same bits whatever other
  //            rows are in the call, and whether spans are computed apart or not
  // codes: on AVX-512 q and, per piece, the weights times V's scales are fixed-point numbers of
  //        args.digits digits, |error| <= largest / 2^(8 digits - 1), and sums over codes are exact
  // needs: D % 8 == 0, P % kAttentionChunk == 0
  // cost:  4 D multiply-adds a position, query head and row; K and V once
  void (*attention)(const AttentionArgs& args);

  // attention_join: joins the spans that attention left in args.partials, into out
  void (*attention_join)(const AttentionArgs& args);

  // max_and_log_sum_exp: over x [n]; the log-sum-exp is max + log(sum of exp(x - max))
  void (*max_and_log_sum_exp)(const float* x, int64_t n, float* max, float* log_sum_exp);
};

int64_t attention_scratch_floats(const quant::KvLayout& layout, int64_t group, int64_t num_rows);
int64_t attention_partial_floats(const quant::KvLayout& layout, int64_t group, int64_t num_rows);

// ISAs compiled in and supported by this CPU, best first. Never empty: generic is always there.
std::vector<Isa> supported_isas();

// "auto" is the best supported one. Throws base::Error, naming the legal values, for an unknown
// name or one that this machine lacks.
Isa parse_isa(const std::string& name);
std::string isa_name(Isa isa);

const OpTable& op_table(Isa isa);

}  // namespace lmrun::kernels
