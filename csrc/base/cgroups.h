// Control groups of this process, for those who look up a limit in each.
#pragma once

#include <functional>
#include <string>

namespace lmrun::base {

// The text of a small file of the system; empty where it cannot be read.
std::string read_system_text(const std::string& path);

// Calls `v2` or `v1` for the folder of each group that `controller` (`cpu`, `memory`) puts this
// process in, up to the mount. In a container the path may be the host's: folders may not exist,
// and the mount itself is the container's group. `proc_cgroup` is the text of /proc/self/cgroup.
void for_each_group(const std::string& mount, const std::string& proc_cgroup,
                    const std::string& controller,
                    const std::function<void(const std::string& folder)>& v2,
                    const std::function<void(const std::string& folder)>& v1);

}  // namespace lmrun::base
