// Read bandwidth of this machine: the ceiling of a decode step.
#pragma once

#include <cstddef>

namespace lmrun::base {

// Bytes per second at which `threads` threads together read `bytes` of memory in 2 MiB pages (where
// the kernel grants them), each its own part, in as many streams and with prefetches as far ahead
// as is best on this machine; the best of many short passes. Throws base::Error when the memory
// cannot be had.
double measure_read_bandwidth(int threads, size_t bytes);

}  // namespace lmrun::base
