#include "base/cpus.h"

#include <sched.h>

#include <algorithm>
#include <sstream>
#include <thread>

#include "base/cgroups.h"

namespace lmrun::base {
namespace {

// Cores in the affinity mask, also where there are more than CPU_SETSIZE of them.
int affinity_cpus() {
  for (int limit = CPU_SETSIZE; limit <= 1 << 20; limit *= 2) {
    cpu_set_t* set = CPU_ALLOC(limit);
    if (set == nullptr) break;
    const size_t size = CPU_ALLOC_SIZE(limit);
    const int rc = sched_getaffinity(0, size, set);
    const int count = rc == 0 ? CPU_COUNT_S(size, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

// cgroup v2: "max 100000" or "150000 100000".
std::optional<double> quota_v2(const std::string& folder) {
  std::istringstream in(read_system_text(folder + "/cpu.max"));
  std::string quota;
  double period = 0;
  if (!(in >> quota >> period) || quota == "max" || period <= 0) return std::nullopt;
  std::istringstream number(quota);
  double value = 0;
  if (!(number >> value) || value <= 0) return std::nullopt;
  return value / period;
}

// cgroup v1: a quota of -1 is none.
std::optional<double> quota_v1(const std::string& folder) {
  std::istringstream quota_in(read_system_text(folder + "/cpu.cfs_quota_us"));
  std::istringstream period_in(read_system_text(folder + "/cpu.cfs_period_us"));
  double quota = 0;
  double period = 0;
  if (!(quota_in >> quota) || !(period_in >> period) || quota <= 0 || period <= 0) {
    return std::nullopt;
  }
  return quota / period;
}

}  // namespace

std::optional<double> cgroup_cpu_quota(const std::string& mount, const std::string& proc_cgroup) {
  std::optional<double> best;
  const auto keep_least = [&](std::optional<double> quota) {
    if (quota && (!best || *quota < *best)) best = quota;
  };
  for_each_group(
      mount, proc_cgroup, "cpu", [&](const std::string& folder) { keep_least(quota_v2(folder)); },
      [&](const std::string& folder) { keep_least(quota_v1(folder)); });
  return best;
}

int available_cpus() {
  const int affinity = affinity_cpus();
  const auto quota = cgroup_cpu_quota("/sys/fs/cgroup", read_system_text("/proc/self/cgroup"));
  if (!quota || *quota >= affinity) return affinity;
  return std::max(1, static_cast<int>(*quota));
}

}  // namespace lmrun::base
