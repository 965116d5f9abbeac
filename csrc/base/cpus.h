// How many cores this process may use.
#pragma once

#include <optional>
#include <string>

namespace lmrun::base {

// The affinity mask or the cgroup quota, whichever is less; at least 1. A quota of 1.5 cores counts
// as one: threads that wait for each other suffer more from throttling than from an idle half core.
int available_cpus();

// The cgroup quota in cores, the smallest from the process's own group up to the root; nothing
// where there is none. `proc_cgroup` is the text of /proc/self/cgroup, `mount` the folder where the
// hierarchy is mounted (/sys/fs/cgroup).
std::optional<double> cgroup_cpu_quota(const std::string& mount, const std::string& proc_cgroup);

}  // namespace lmrun::base
