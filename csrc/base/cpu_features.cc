#include "base/cpu_features.h"

#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace lmrun::base {

#if defined(__x86_64__)
namespace {

struct Registers {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d) == 0) return {};
  return r;
}

uint64_t enabled_state() {
  uint32_t low = 0;
  uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

bool bit(uint32_t word, int index) { return ((word >> index) & 1) != 0; }

}  // namespace

CpuFeatures detect_cpu_features() {
  CpuFeatures features;
  const Registers leaf1 = cpuid(1, 0);
  features.fma = bit(leaf1.c, 12);
  features.f16c = bit(leaf1.c, 29);
  if (const bool os_uses_xsave = bit(leaf1.c, 27); os_uses_xsave) {
    constexpr uint64_t kSseAvxAndZmm = 0xE6;  // XCR0 bits 1, 2 and 5 to 7
    constexpr uint64_t kSseAndAvx = 0x6;      // bits 1 and 2
    features.os_saves_ymm = (enabled_state() & kSseAndAvx) == kSseAndAvx;
    features.os_saves_zmm = (enabled_state() & kSseAvxAndZmm) == kSseAvxAndZmm;
    constexpr uint64_t kTiles = 0x60000;  // XCR0 bits 17 (shapes) and 18 (data)
    features.os_saves_tiles = (enabled_state() & kTiles) == kTiles;
  }
  const Registers leaf7 = cpuid(7, 0);
  features.avx2 = bit(leaf7.b, 5);
  features.avx512f = bit(leaf7.b, 16);
  features.avx512dq = bit(leaf7.b, 17);
  features.avx512bw = bit(leaf7.b, 30);
  features.avx512vl = bit(leaf7.b, 31);
  features.avx512vnni = bit(leaf7.c, 11);
  features.amx_tile = bit(leaf7.d, 24);
  features.amx_int8 = bit(leaf7.d, 25);
  features.avx512bf16 = bit(cpuid(7, 1).a, 5);
  return features;
}
#else
CpuFeatures detect_cpu_features() { return {}; }
#endif

std::vector<std::string> CpuFeatures::missing_for_avx2() const {
  std::vector<std::string> missing;
  if (!fma) missing.emplace_back("fma");
  if (!f16c) missing.emplace_back("f16c");
  if (!avx2) missing.emplace_back("avx2");
  if (!os_saves_ymm) missing.emplace_back("operating system support for AVX state");
  return missing;
}

std::vector<std::string> CpuFeatures::missing_for_avx512() const {
  std::vector<std::string> missing;
  const auto need = [&missing](bool present, const char* name) {
    if (!present) missing.emplace_back(name);
  };
  need(fma, "fma");
  need(f16c, "f16c");
  need(avx2, "avx2");
  need(avx512f, "avx512f");
  need(avx512bw, "avx512bw");
  need(avx512vl, "avx512vl");
  need(avx512dq, "avx512dq");
  need(os_saves_zmm, "operating system support for AVX-512 state");
  return missing;
}

std::vector<std::string> CpuFeatures::missing_for_amx() const {
  std::vector<std::string> missing = missing_for_avx512();
  if (!avx512vnni) missing.emplace_back("avx512_vnni");
  if (!amx_tile) missing.emplace_back("amx_tile");
  if (!amx_int8) missing.emplace_back("amx_int8");
  if (!os_saves_tiles) missing.emplace_back("operating system support for AMX state");
  return missing;
}

#if defined(__x86_64__) && defined(__linux__)
bool allow_tiles() {
  constexpr int64_t kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM, Linux 5.16
  constexpr int64_t kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#else
bool allow_tiles() { return false; }
#endif

}  // namespace lmrun::base
