// Reads a KV block as csrc/cache/README.md describes it, one element at a time, in float64.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/half.h"
#include "quant/layout.h"

namespace lmrun::kernels::testing {

enum Part { kKeys, kValues };

class CacheBlock {
 public:
  CacheBlock(const quant::KvLayout& layout, const std::byte* block)
      : layout_(layout), block_(block) {}

  double value(int64_t layer, int64_t head, Part part, int64_t slot, int64_t d) const {
    const int64_t dim = layout_.head_dim;
    const std::byte* codes = part_at(layer, head, part) + slot * dim * layout_.bits / 8;
    switch (layout_.bits) {
      case 32: {
        float value = 0;
        std::memcpy(&value, codes + d * 4, 4);
        return value;
      }
      case 16:
        return half_at(codes + d * 2);
      case 8:
        return static_cast<double>(codes[d]) * scale(layer, head, part, slot) +
               half_at(params_at(layer, head, part, slot) + 2);
      default: {
        const auto pair = static_cast<uint32_t>(codes[d % (dim / 2)]);
        const uint32_t code = d < dim / 2 ? pair & 15 : pair >> 4;
        return code * scale(layer, head, part, slot) +
               half_at(params_at(layer, head, part, slot) + 2);
      }
    }
  }

  // 0 where the layout has no scale.
  double scale(int64_t layer, int64_t head, Part part, int64_t slot) const {
    return layout_.bits < 16 ? half_at(params_at(layer, head, part, slot)) : 0.0;
  }

 private:
  static double half_at(const std::byte* bytes) {
    uint16_t half = 0;
    std::memcpy(&half, bytes, 2);
    return reference::float_from_f16(half);
  }
  const std::byte* part_at(int64_t layer, int64_t head, Part part) const {
    const int64_t params = layout_.bits < 16 ? 4 : 0;
    const int64_t bytes = layout_.block_size * (layout_.bits * layout_.head_dim / 8 + params);
    return block_ + ((layer * layout_.num_kv_heads + head) * 2 + part) * bytes;
  }
  const std::byte* params_at(int64_t layer, int64_t head, Part part, int64_t slot) const {
    return part_at(layer, head, part) + layout_.block_size * layout_.bits * layout_.head_dim / 8 +
           slot * 4;
  }

  const quant::KvLayout& layout_;
  const std::byte* block_;
};

}  // namespace lmrun::kernels::testing
