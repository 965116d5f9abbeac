#include "base/cpus.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

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

std::string read_text(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return in ? text.str() : std::string();
}

// cgroup v2: "max 100000" or "150000 100000".
std::optional<double> quota_v2(const std::string& folder) {
  std::istringstream in(read_text(folder + "/cpu.max"));
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
  std::istringstream quota_in(read_text(folder + "/cpu.cfs_quota_us"));
  std::istringstream period_in(read_text(folder + "/cpu.cfs_period_us"));
  double quota = 0;
  double period = 0;
  if (!(quota_in >> quota) || !(period_in >> period) || quota <= 0 || period <= 0) {
    return std::nullopt;
  }
  return quota / period;
}

using QuotaReader = std::optional<double> (*)(const std::string& folder);

// The smallest quota from `path` up to the mount. In a container the path may be the host's; what
// of it does not exist reads as no quota, and the mount itself is the container's group.
void walk_up(const std::string& mount, std::string path, QuotaReader read,
             std::optional<double>* best) {
  for (;;) {
    if (path == "/") path.clear();
    if (const auto quota = read(mount + path); quota && (!*best || *quota < **best)) *best = quota;
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return;
    path.resize(slash);
  }
}

bool lists_cpu(const std::string& controllers) {
  std::istringstream in(controllers);
  for (std::string name; std::getline(in, name, ',');) {
    if (name == "cpu") return true;
  }
  return false;
}

}  // namespace

std::optional<double> cgroup_cpu_quota(const std::string& mount, const std::string& proc_cgroup) {
  std::optional<double> best;
  std::istringstream lines(proc_cgroup);
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      walk_up(mount, path, quota_v2, &best);
    } else if (lists_cpu(controllers)) {
      walk_up(mount + "/" + controllers, path, quota_v1, &best);
      walk_up(mount + "/cpu", path, quota_v1, &best);
    }
  }
  return best;
}

int available_cpus() {
  const int affinity = affinity_cpus();
  const auto quota = cgroup_cpu_quota("/sys/fs/cgroup", read_text("/proc/self/cgroup"));
  if (!quota || *quota >= affinity) return affinity;
  return std::max(1, static_cast<int>(*quota));
}

}  // namespace lmrun::base
