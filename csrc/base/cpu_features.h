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
  bool os_saves_zmm = false;  // the operating system keeps ZMM and mask registers

  // What the AVX-512 kernels need and this machine lacks; empty when they can run.
  std::vector<std::string> missing_for_avx512() const;
};

// All false where the target is not x86-64.
CpuFeatures detect_cpu_features();

}  // namespace lmrun::base
