// Memory that is to be had.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace lmrun::base {

// Bytes that this process could still take without swapping: what the system calls available, or
// what the tightest control group leaves, whichever is less; file pages can be given up and count
// as free. Nothing where the system does not say.
std::optional<size_t> available_memory();

// The part of it that control groups leave. `mount` is where they are mounted, `proc_cgroup` the
// text of /proc/self/cgroup.
std::optional<size_t> cgroup_available_memory(const std::string& mount,
                                              const std::string& proc_cgroup);

}  // namespace lmrun::base
