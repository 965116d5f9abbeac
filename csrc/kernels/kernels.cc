#include "kernels/kernels.h"

#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/cpu_features.h"
#include "kernels/cpu/avx512.h"
#include "kernels/cpu/reference.h"

namespace lmrun::kernels {
namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += ", ";
    text += word;
  }
  return text;
}

// What keeps the AVX-512 kernels from running here; empty when they can.
std::vector<std::string> missing_for_avx512() {
#if defined(LMRUN_X86)
  return base::detect_cpu_features().missing_for_avx512();
#else
  return {"an x86-64 build"};
#endif
}

}  // namespace

int64_t attention_scratch_floats(const quant::KvLayout& layout, int64_t group, int64_t num_rows) {
  const int64_t padded_dim = (layout.head_dim + 15) / 16 * 16;
  const int64_t one_chunk = 2 * kAttentionChunk * padded_dim;  // K and V
  const int64_t softmax_state = 2 * group * num_rows;          // maximum and sum
  const int64_t alignment = 16;
  return one_chunk + softmax_state + alignment;
}

std::vector<Isa> supported_isas() {
  if (missing_for_avx512().empty()) return {Isa::kAvx512, Isa::kGeneric};
  return {Isa::kGeneric};
}

std::string isa_name(Isa isa) {
  switch (isa) {
    case Isa::kGeneric:
      return "generic";
    case Isa::kAvx512:
      return "avx512";
  }
  return "unknown";
}

Isa parse_isa(const std::string& name) {
  if (name == "auto") return supported_isas().front();
  if (name == "generic") return Isa::kGeneric;
  LMRUN_CHECK(name == "avx512",
              "backend.isa=" << name << ": unknown. Use auto, generic or avx512.");
  const std::vector<std::string> missing = missing_for_avx512();
  LMRUN_CHECK(missing.empty(), "backend.isa=avx512: this machine lacks "
                                   << joined(missing) << ". Use auto or generic.");
  return Isa::kAvx512;
}

const OpTable& op_table(Isa isa) {
#if defined(LMRUN_X86)
  if (isa == Isa::kAvx512) return avx512::ops(base::detect_cpu_features().avx512vnni);
#endif
  LMRUN_CHECK(isa == Isa::kGeneric, "op table: no kernels for " << isa_name(isa) << " here");
  return reference::ops();
}

}  // namespace lmrun::kernels
