#include "quant/kv_layouts.h"

namespace lmrun::quant {

std::vector<KvLayout> kv_layouts(const KvLayout& shape, std::span<const int64_t> bits) {
  std::vector<KvLayout> layouts;
  int64_t offset = 0;
  for (const int64_t own : bits) {
    KvLayout layer = shape;
    layer.bits = static_cast<int>(own);
    layer.layer_offset = offset;
    offset += layer.layer_bytes();
    layouts.push_back(layer);
  }
  for (KvLayout& layer : layouts) layer.block_bytes = offset;
  return layouts;
}

}  // namespace lmrun::quant
