#include "base/memory.h"

#include <doctest/doctest.h>

#include <string>

#include "temporary_folder.h"

using lmrun::base::available_memory;
using lmrun::base::cgroup_available_memory;
using lmrun::testing::TemporaryFolder;
using lmrun::testing::write;

TEST_CASE("what the tightest cgroup v2 leaves counts, its file pages as free") {
  const TemporaryFolder mount;
  const std::string group = "0::/a/b\n";
  CHECK_FALSE(cgroup_available_memory(mount.path(), group).has_value());
  write(mount.path() + "/a/b/memory.max", "max\n");
  write(mount.path() + "/a/b/memory.current", "700\n");
  CHECK_FALSE(cgroup_available_memory(mount.path(), group).has_value());
  write(mount.path() + "/a/memory.max", "1000\n");
  write(mount.path() + "/a/memory.current", "800\n");
  CHECK(cgroup_available_memory(mount.path(), group) == 200);
  write(mount.path() + "/a/memory.stat", "anon 500\ninactive_file 200\nactive_file 100\n");
  CHECK(cgroup_available_memory(mount.path(), group) == 500);
  write(mount.path() + "/memory.max", "900\n");
  write(mount.path() + "/memory.current", "950\n");
  CHECK(cgroup_available_memory(mount.path(), group) == 0);
}

TEST_CASE("cgroup v1 writes a huge number for no limit") {
  const TemporaryFolder mount;
  const std::string group = "5:memory:/a\n4:cpu:/a\n";
  write(mount.path() + "/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
  write(mount.path() + "/memory/a/memory.usage_in_bytes", "800\n");
  CHECK_FALSE(cgroup_available_memory(mount.path(), group).has_value());
  write(mount.path() + "/memory/memory.limit_in_bytes", "1000\n");
  write(mount.path() + "/memory/memory.usage_in_bytes", "800\n");
  write(mount.path() + "/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 50\n");
  CHECK(cgroup_available_memory(mount.path(), group) == 250);
}

TEST_CASE("this machine has memory") {
  const auto found = available_memory();
  if (found) CHECK(*found > 0);
}
