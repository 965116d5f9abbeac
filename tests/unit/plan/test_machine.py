from pathlib import Path

import pytest

from lmrun.plan import machine
from lmrun.plan.machine import this_machine
from lmrun.plan.numeric_class import numeric_class

AVX512 = "avx2 fma f16c avx512f avx512bw avx512vl avx512dq"


def write(root: Path, **files: str) -> Path:
    """Files below a folder; `__` in a name stands for a slash."""
    for name, text in files.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("flags", "isa"),
    [
        ("fpu sse2", "generic"),
        ("avx2 fma", "generic"),
        ("avx2 fma f16c", "avx2"),
        (AVX512, "avx512"),
        (f"{AVX512} avx512_vnni avx512_bf16", "avx512"),
        (f"{AVX512} amx_tile amx_bf16 amx_int8", "amx"),
    ],
)
def test_the_level_is_the_highest_that_is_complete(tmp_path: Path, flags: str, isa: str) -> None:
    text = f"processor : 0\nvendor_id\t: GenuineIntel\nflags\t\t: {flags}\nprocessor : 1\n"
    write(tmp_path, cpuinfo=text)
    assert machine.cpu(tmp_path / "cpuinfo") == (isa, "GenuineIntel")


def test_a_machine_without_cpuinfo_is_generic(tmp_path: Path) -> None:
    assert machine.cpu(tmp_path / "cpuinfo") == ("generic", "unknown")


def test_the_lowest_limit_on_the_way_to_the_root_counts(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        a__memory_max="4294967296",
        a__b__memory_max="max",
        a__b__c__memory_max="8589934592",
    )
    for file in list(root.rglob("memory_max")):
        file.rename(file.with_name("memory.max"))
    assert machine.memory_limit({"": "/a/b/c"}, root) == 4 * 2**30
    assert machine.memory_limit({"": "/"}, root) is None


def test_limits_of_the_first_version_are_read_too(tmp_path: Path) -> None:
    folder = tmp_path / "memory" / "box"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("1073741824\n")
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert machine.memory_limit({"memory": "/box", "": "/"}, tmp_path) == 2**30
    assert machine.memory_limit({"memory": "/", "": "/"}, tmp_path) is None


def test_a_group_outside_the_mount_falls_back_to_its_root(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1073741824")
    assert machine.memory_limit({"": "/docker/not/mounted"}, tmp_path) == 2**30


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1)]
)
def test_a_cpu_quota_lowers_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "cpu.max").write_text(quota)
    assert machine.cores({"": "/"}, tmp_path) == cores


def test_a_cpu_quota_of_the_first_version_lowers_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("200000")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert machine.cores({"cpu": "/"}, tmp_path) == 2


def test_the_total_is_the_cgroup_limit_where_that_is_lower(tmp_path: Path) -> None:
    proc = write(tmp_path / "proc", self__cgroup="0::/box\n", cpuinfo="flags : sse2\n")
    folder = tmp_path / "sys" / "box"
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text(str(2**28))
    found = this_machine(proc, tmp_path / "sys")
    assert (found.memory_bytes, found.memory_source) == (2**28, "cgroup limit")
    (folder / "memory.max").write_text("max")
    assert this_machine(proc, tmp_path / "sys").memory_source == "installed memory"


def test_the_numeric_class_names_all_that_moves_bits() -> None:
    found = numeric_class(this_machine())
    assert list(found) == ["device", "vendor", "isa", "torch"]
    assert found["torch"][0].isdigit()
