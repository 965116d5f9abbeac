// Reads a KV block as csrc/cache/README.md describes it, one element at a time, in float64.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/cpu/half.h"
#include "quant/layout.h"

namespace lmrun::kernels::testing {

enum Part { kKeys, kValues };

class CacheBlock {
 public:
  // `layers` outlive this; of each only what csrc/cache/README.md names is read.
  CacheBlock(const std::vector<quant::KvLayout>& layers, const std::byte* block)
      : layers_(layers), block_(block) {}

  double value(int64_t layer, int64_t head, Part part, int64_t slot, int64_t d) const {
    const int64_t dim = of(layer).head_dim;
    const int bits = of(layer).bits;
    const std::byte* codes = part_at(layer, head, part);
    switch (bits) {
      case 32: {
        float value = 0;
        std::memcpy(&value, codes + byte_at(layer, part, slot, d * 4), 4);
        return value;
      }
      case 16:
        return half_at(codes + byte_at(layer, part, slot, d * 2));
      case 8:
        return static_cast<double>(codes[byte_at(layer, part, slot, d)]) *
                   scale(layer, head, part, slot) +
               half_at(params_at(layer, head, part, slot) + 2);
      default: {
        const auto pair = static_cast<uint32_t>(codes[byte_at(layer, part, slot, d % (dim / 2))]);
        const uint32_t code = d < dim / 2 ? pair & 15 : pair >> 4;
        return code * scale(layer, head, part, slot) +
               half_at(params_at(layer, head, part, slot) + 2);
      }
    }
  }

  // Where byte `byte` of a slot's codes or elements lies in a part.
  int64_t byte_at(int64_t layer, Part part, int64_t slot, int64_t byte) const {
    const int bits = of(layer).bits;
    const int64_t bytes = of(layer).head_dim * bits / 8;
    if (part == kKeys) {  // 16 slots together, word by word (f16: element by element)
      const int64_t unit = bits == 16 ? 2 : 4;
      return slot / 16 * 16 * bytes + byte / unit * 16 * unit + slot % 16 * unit + byte % unit;
    }
    if (bits >= 16) return slot * bytes + byte;
    return slot / 4 * 4 * bytes + byte * 4 + slot % 4;  // codes of 4 slots side by side
  }

  // 0 where the layout has no scale.
  double scale(int64_t layer, int64_t head, Part part, int64_t slot) const {
    return of(layer).bits < 16 ? half_at(params_at(layer, head, part, slot)) : 0.0;
  }

 private:
  static double half_at(const std::byte* bytes) {
    uint16_t half = 0;
    std::memcpy(&half, bytes, 2);
    return reference::float_from_f16(half);
  }
  const quant::KvLayout& of(int64_t layer) const { return layers_[static_cast<size_t>(layer)]; }
  int64_t part_bytes(int64_t layer) const {
    const quant::KvLayout& own = of(layer);
    return own.block_size * (own.bits * own.head_dim / 8 + (own.bits < 16 ? 4 : 0));
  }
  const std::byte* part_at(int64_t layer, int64_t head, Part part) const {
    const std::byte* start = block_;
    for (int64_t i = 0; i < layer; ++i) start += of(i).num_kv_heads * 2 * part_bytes(i);
    return start + (head * 2 + part) * part_bytes(layer);
  }
  const std::byte* params_at(int64_t layer, int64_t head, Part part, int64_t slot) const {
    const quant::KvLayout& own = of(layer);
    return part_at(layer, head, part) + own.block_size * own.bits * own.head_dim / 8 + slot * 4;
  }

  const std::vector<quant::KvLayout>& layers_;
  const std::byte* block_;
};

}  // namespace lmrun::kernels::testing
