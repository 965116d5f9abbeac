#include "base/cgroups.h"

#include <fstream>
#include <sstream>

namespace lmrun::base {
namespace {

using Visit = std::function<void(const std::string& folder)>;

void walk_up(const std::string& mount, std::string path, const Visit& visit) {
  for (;;) {
    if (path == "/") path.clear();
    visit(mount + path);
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return;
    path.resize(slash);
  }
}

bool lists(const std::string& controllers, const std::string& controller) {
  std::istringstream in(controllers);
  for (std::string name; std::getline(in, name, ',');) {
    if (name == controller) return true;
  }
  return false;
}

}  // namespace

std::string read_system_text(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return in ? text.str() : std::string();
}

void for_each_group(const std::string& mount, const std::string& proc_cgroup,
                    const std::string& controller, const Visit& v2, const Visit& v1) {
  std::istringstream lines(proc_cgroup);
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      walk_up(mount, path, v2);
    } else if (lists(controllers, controller)) {
      walk_up(mount + "/" + controllers, path, v1);
      walk_up(mount + "/" + controller, path, v1);
    }
  }
}

}  // namespace lmrun::base
