#include "kernels/kernels.h"

#include <cstdint>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/cpu_features.h"
#include "kernels/cpu/amx.h"
#include "kernels/cpu/avx2.h"
#include "kernels/cpu/avx512.h"
#include "kernels/cpu/reference.h"

namespace lmrun::kernels {
namespace {

// Worst first.
constexpr Isa kIsas[] = {Isa::kGeneric, Isa::kAvx2, Isa::kAvx512, Isa::kAmx};

std::string joined(const std::vector<std::string>& words, const char* last) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? last : ", ";
    text += words[i];
  }
  return text;
}

// What keeps an ISA's kernels from running here; empty when they can.
std::vector<std::string> missing_for(Isa isa) {
  if (isa == Isa::kGeneric) return {};
#if defined(LMRUN_X86)
  const base::CpuFeatures cpu = base::detect_cpu_features();
  if (isa == Isa::kAvx2) return cpu.missing_for_avx2();
  if (isa == Isa::kAvx512) return cpu.missing_for_avx512();
  std::vector<std::string> missing = cpu.missing_for_amx();
  if (missing.empty() && !base::allow_tiles()) {
    missing.emplace_back("the operating system's permission to use AMX tiles");
  }
  return missing;
#else
  return {"an x86-64 build"};
#endif
}

}  // namespace

int64_t attention_scratch_floats(const quant::KvLayout& layout, int64_t group, int64_t num_rows) {
  const int64_t padded_dim = (layout.head_dim + 15) / 16 * 16;
  const int64_t unpacked = 2 * kAttentionPiece * padded_dim;   // K and V
  const int64_t state = padded_dim + 3 * 16 + 2;               // of a softmax, and its total
  const int64_t digits = quant::kMostDigits * padded_dim / 4;  // of q
  const int64_t alignment = 16;
  return unpacked + group * num_rows * (state + digits) + alignment;
}

int64_t attention_partial_floats(const quant::KvLayout& layout, int64_t group, int64_t num_rows) {
  const int64_t padded_dim = (layout.head_dim + 15) / 16 * 16;
  return group * num_rows * (padded_dim + 16);  // sums of V; maximum and sum
}

std::vector<Isa> supported_isas() {
  std::vector<Isa> supported;
  for (const Isa isa : kIsas) {
    if (missing_for(isa).empty()) supported.insert(supported.begin(), isa);
  }
  return supported;
}

std::string isa_name(Isa isa) {
  switch (isa) {
    case Isa::kGeneric:
      return "generic";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAmx:
      return "amx";
  }
  return "unknown";
}

Isa parse_isa(const std::string& name) {
  if (name == "auto") return supported_isas().front();
  std::vector<std::string> known = {"auto"};
  std::vector<std::string> legal = {"auto"};
  for (const Isa isa : kIsas) {
    known.push_back(isa_name(isa));
    if (missing_for(isa).empty()) legal.push_back(isa_name(isa));
  }
  for (const Isa isa : kIsas) {
    if (name != isa_name(isa)) continue;
    const std::vector<std::string> missing = missing_for(isa);
    LMRUN_CHECK(missing.empty(), "backend.isa=" << name << ": this machine lacks "
                                                << joined(missing, ", ") << ". Use "
                                                << joined(legal, " or ") << ".");
    return isa;
  }
  throw base::Error("backend.isa=" + name + ": unknown. Use " + joined(known, " or ") + ".");
}

const OpTable& op_table(Isa isa) {
#if defined(LMRUN_X86)
  if (isa == Isa::kAmx) return amx::ops();
  if (isa == Isa::kAvx2) return avx2::ops();
  if (isa == Isa::kAvx512) return avx512::ops(base::detect_cpu_features().avx512vnni);
#endif
  LMRUN_CHECK(isa == Isa::kGeneric, "op table: no kernels for " << isa_name(isa) << " here");
  return reference::ops();
}

}  // namespace lmrun::kernels
