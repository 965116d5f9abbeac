// What the CPU and the operating system offer, read once from cpuid and xgetbv.
#pragma once

#include <string>
#include <vector>

namespace lmrun::base {

struct CpuFeatures {
  bool fma = false;
  bool f16c = false;
  bool avx2 = false;
  bool avx512f = false;
  bool avx512bw = false;
  bool avx512vl = false;
  bool avx512dq = false;
  bool avx512vnni = false;
  bool avx512bf16 = false;
  bool os_saves_ymm = false;  // the operating system keeps YMM registers
  bool os_saves_zmm = false;  // the operating system keeps ZMM and mask registers
  bool amx_tile = false;
  bool amx_int8 = false;
  bool os_saves_tiles = false;  // the operating system keeps tiles and their shapes

  // What the AVX2 kernels need and this machine lacks; empty when they can run.
  std::vector<std::string> missing_for_avx2() const;
  // What the AVX-512 kernels need and this machine lacks; empty when they can run.
  std::vector<std::string> missing_for_avx512() const;
  // Likewise the AMX kernels, which take all else from the AVX-512 ones. Before the first tile
  // instruction allow_tiles() must have said yes.
  std::vector<std::string> missing_for_amx() const;
};

// All false where the target is not x86-64.
CpuFeatures detect_cpu_features();

// Asks Linux to let all threads of this process, also those to come, use AMX tiles; without that
// their first tile instruction kills it. False where it refuses. May be called again.
bool allow_tiles();

}  // namespace lmrun::base
