#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "base/check.h"
#include "base/cpu_features.h"
#include "kernels/kernels.h"

namespace lmrun::kernels {
namespace {

std::string failure_of(const std::string& name) {
  try {
    parse_isa(name);
  } catch (const base::Error& error) {
    return error.what();
  }
  return "";
}

TEST_CASE("generic is always there, last, and auto is the best") {
  const std::vector<Isa> isas = supported_isas();
  CHECK(isas.back() == Isa::kGeneric);
  CHECK(parse_isa("auto") == isas.front());
  CHECK(parse_isa("generic") == Isa::kGeneric);
  for (const Isa isa : isas) {
    CHECK(parse_isa(isa_name(isa)) == isa);
    CHECK(op_table(isa).isa == isa);
  }
}

TEST_CASE("an unknown isa is refused with the legal names") {
  CHECK(failure_of("avx3") == "backend.isa=avx3: unknown. Use auto, generic, avx2, avx512 or amx.");
}

TEST_CASE("what a CPU lacks is named") {
  base::CpuFeatures features;
  features.f16c = features.avx2 = true;
  CHECK(features.missing_for_avx2() ==
        std::vector<std::string>{"fma", "operating system support for AVX state"});
  features.fma = features.os_saves_ymm = true;
  CHECK(features.missing_for_avx2().empty());
  features.avx512f = features.os_saves_zmm = true;
  CHECK(features.missing_for_avx512() ==
        std::vector<std::string>{"avx512bw", "avx512vl", "avx512dq"});
  features.avx512bw = features.avx512vl = features.avx512dq = true;
  CHECK(features.missing_for_avx512().empty());
  CHECK(features.missing_for_amx() ==
        std::vector<std::string>{"avx512_vnni", "amx_tile", "amx_int8",
                                 "operating system support for AMX state"});
  features.avx512vnni = features.amx_tile = features.amx_int8 = features.os_saves_tiles = true;
  CHECK(features.missing_for_amx().empty());
}

TEST_CASE("an isa that the machine lacks is refused with what is missing and what is legal") {
  const std::vector<Isa> supported = supported_isas();
  std::string legal = "auto";
  for (size_t i = supported.size(); i-- > 0;) {
    legal += (i == 0 ? " or " : ", ") + isa_name(supported[i]);
  }
  const std::vector<std::string> missing = base::detect_cpu_features().missing_for_amx();
  if (missing.empty()) return;
  std::string lacks;
  for (const std::string& word : missing) lacks += (lacks.empty() ? "" : ", ") + word;
  CHECK(failure_of("amx") ==
        "backend.isa=amx: this machine lacks " + lacks + ". Use " + legal + ".");
}

}  // namespace
}  // namespace lmrun::kernels
