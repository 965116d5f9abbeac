#include "base/cpus.h"

#include <doctest/doctest.h>

#include <string>

#include "temporary_folder.h"

using lmrun::base::available_cpus;
using lmrun::base::cgroup_cpu_quota;
using lmrun::testing::TemporaryFolder;
using lmrun::testing::write;

TEST_CASE("a cgroup v2 quota is the smallest from the own group to the root") {
  const TemporaryFolder mount;
  const std::string group = "0::/a/b\n";
  CHECK_FALSE(cgroup_cpu_quota(mount.path(), group).has_value());
  write(mount.path() + "/a/b/cpu.max", "max 100000\n");
  CHECK_FALSE(cgroup_cpu_quota(mount.path(), group).has_value());
  write(mount.path() + "/a/cpu.max", "250000 100000\n");
  CHECK(cgroup_cpu_quota(mount.path(), group) == 2.5);
  write(mount.path() + "/cpu.max", "100000 100000\n");
  CHECK(cgroup_cpu_quota(mount.path(), group) == 1.0);
}

TEST_CASE("a container sees its own group at the mount") {
  const TemporaryFolder mount;
  write(mount.path() + "/cpu.max", "150000 100000\n");
  CHECK(cgroup_cpu_quota(mount.path(), "0::/\n") == 1.5);
  CHECK(cgroup_cpu_quota(mount.path(), "0::/of/the/host\n") == 1.5);
}

TEST_CASE("a cgroup v1 quota is read from the cpu controller") {
  const TemporaryFolder mount;
  const std::string groups = "5:cpu,cpuacct:/x\n4:cpuset:/x\n";
  write(mount.path() + "/cpu,cpuacct/x/cpu.cfs_quota_us", "-1\n");
  write(mount.path() + "/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
  CHECK_FALSE(cgroup_cpu_quota(mount.path(), groups).has_value());
  write(mount.path() + "/cpu,cpuacct/x/cpu.cfs_quota_us", "300000\n");
  CHECK(cgroup_cpu_quota(mount.path(), groups) == 3.0);
}

TEST_CASE("text that is no quota counts as none") {
  const TemporaryFolder mount;
  for (const char* text : {"", "many 100000", "-5 100000", "100000 0", "100000"}) {
    write(mount.path() + "/cpu.max", text);
    CHECK_FALSE(cgroup_cpu_quota(mount.path(), "0::/\n").has_value());
  }
  CHECK_FALSE(cgroup_cpu_quota(mount.path(), "nonsense\n").has_value());
}

TEST_CASE("this process may use at least one core") { CHECK(available_cpus() >= 1); }
