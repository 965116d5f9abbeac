// The parts of a KV block, layer by layer.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quant/layout.h"

namespace lmrun::quant {

// Layouts of layers that follow each other in a block, each in bits of its own. `shape` says heads,
// head_dim and block size.
std::vector<KvLayout> kv_layouts(const KvLayout& shape, std::span<const int64_t> bits);

}  // namespace lmrun::quant
