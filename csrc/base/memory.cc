#include "base/memory.h"

#include <algorithm>
#include <sstream>

#include "base/cgroups.h"

namespace lmrun::base {
namespace {

// Control groups of the first version write a huge number for "no limit".
constexpr double kNoLimit = 4e18;

std::optional<double> number_in(const std::string& path) {
  std::istringstream in(read_system_text(path));
  double value = 0;
  if (!(in >> value)) return std::nullopt;  // "max" too
  return value;
}

// The number behind a name, in a file of lines "name number"; 0 where it is not there.
double number_of(const std::string& text, const std::string& name) {
  std::istringstream in(text);
  std::string found;
  double value = 0;
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    if (fields >> found >> value && found == name) return value;
  }
  return 0;
}

}  // namespace

std::optional<size_t> cgroup_available_memory(const std::string& mount,
                                              const std::string& proc_cgroup) {
  std::optional<double> least;
  const auto look = [&](const std::string& folder, const char* limit_file, const char* usage_file,
                        const char* prefix) {
    const std::optional<double> limit = number_in(folder + limit_file);
    const std::optional<double> used = number_in(folder + usage_file);
    if (!limit || !used || *limit >= kNoLimit) return;
    const std::string stat = read_system_text(folder + "/memory.stat");
    const std::string name = prefix;
    const double files =
        number_of(stat, name + "inactive_file") + number_of(stat, name + "active_file");
    const double left = std::max(0.0, *limit - std::max(0.0, *used - files));
    if (!least || left < *least) least = left;
  };
  for_each_group(
      mount, proc_cgroup, "memory",
      [&](const std::string& folder) { look(folder, "/memory.max", "/memory.current", ""); },
      [&](const std::string& folder) {
        look(folder, "/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_");
      });
  if (!least) return std::nullopt;
  return static_cast<size_t>(*least);
}

std::optional<size_t> available_memory() {
  const double kib = number_of(read_system_text("/proc/meminfo"), "MemAvailable:");
  const auto left =
      cgroup_available_memory("/sys/fs/cgroup", read_system_text("/proc/self/cgroup"));
  if (kib <= 0) return left;
  const auto available = static_cast<size_t>(kib) * 1024;
  return left ? std::min(available, *left) : available;
}

}  // namespace lmrun::base
