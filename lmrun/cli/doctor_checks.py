"""What `lmrun doctor` looks at: one function a subject, each yields what it found.

Nothing here loads torch or changes the machine: a file without a name in the store's folder shows
whether it can be written.
"""

import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module, metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import lmrun
from lmrun import env
from lmrun.artifacts.files import existing, free_bytes
from lmrun.artifacts.measurements import load_ceilings
from lmrun.cli.nvml import devices
from lmrun.config.schema import FrontendConfig
from lmrun.deploy import ports
from lmrun.errors import PlanError
from lmrun.plan.machine import this_machine
from lmrun.plan.sizes import show_bytes

LITTLE_DISK_BYTES = 10 << 30
LITTLE_TEMPORARY_BYTES = 64 << 20
LITTLE_MEMORY_BYTES = 1 << 30
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
BUILD_IT = "`pip install .` in a checkout builds it."


class Status(StrEnum):
    """How a check ended."""

    ok = "ok"
    warn = "warn"
    """It works, worse than it could."""
    fail = "fail"
    """Something lmrun needs is missing."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the report."""

    name: str
    status: Status
    found: str
    advice: str | None = None
    """What to do about it; None where all is well."""


def checks() -> Iterator[Check]:
    """All of them, in the order they are shown."""
    yield from cpu()
    yield from cores()
    yield from memory()
    yield huge_pages()
    yield from gpu()
    yield from engine()
    yield python()
    yield packages(metadata.requires("lmrun") or [])
    yield torch()
    yield from store()
    yield temporary_folder()
    yield hub_cache()
    yield port()
    yield measured()


def ok(name: str, found: str) -> Check:
    """All is well."""
    return Check(name=name, status=Status.ok, found=found)


def warn(name: str, found: str, advice: str) -> Check:
    """It works, worse than it could."""
    return Check(name=name, status=Status.warn, found=found, advice=advice)


def fail(name: str, found: str, advice: str) -> Check:
    """Something is missing."""
    return Check(name=name, status=Status.fail, found=found, advice=advice)


def cpu() -> Iterator[Check]:
    """Model and instruction sets."""
    machine = this_machine()
    found = f"{machine.cpu} ({machine.vendor}, {platform.machine()}), {machine.isa}"
    if machine.isa in ("avx512", "amx"):
        yield ok("cpu", found)
    else:
        advice = "Only AVX-512 has fast kernels so far: the generic ones are for trying lmrun out."
        yield warn("cpu", found, advice)


def cores() -> Iterator[Check]:
    """What this process may use of the machine's cores."""
    machine, installed = this_machine(), os.cpu_count() or 1
    found = f"{machine.cores} of {installed} may be used"
    if machine.cores < installed:
        found += " (affinity or cgroup quota)"
    yield ok("cores", found)


def memory() -> Iterator[Check]:
    """Total, as plans count it, and what is free now."""
    machine = this_machine()
    free = _available_bytes()
    found = f"{show_bytes(machine.memory_bytes)}, {machine.memory_source}"
    if free is not None:
        found += f"; {show_bytes(free)} available now"
    if free is not None and free < LITTLE_MEMORY_BYTES:
        yield warn("memory", found, "Stop other programs: plans count on the total.")
    else:
        yield ok("memory", found)


def huge_pages(file: Path = HUGE_PAGES) -> Check:
    """Pages of 2 MiB, which weights and KV blocks ask for; where the setting allows them, a try."""
    slower = "Weights stay in 4 KiB pages of the workspace file: decoding is some per cent slower."
    if not file.is_file():
        return warn("huge pages", "the kernel has none", slower)
    text = file.read_text(encoding="ascii").strip()
    chosen = text.partition("[")[2].partition("]")[0]
    if chosen not in ("always", "madvise"):
        return warn("huge pages", chosen or text, f"{slower} As root: echo madvise > {file}")
    if not _gives_huge_pages():
        found = f"{chosen}, but memory that asked for some got none"
        return warn("huge pages", found, f"{slower} Memory may be short or in pieces.")
    return ok("huge pages", chosen)


def _gives_huge_pages() -> bool:
    try:
        return bool(import_module("lmrun._engine").gives_huge_pages())
    except ImportError:
        return True  # `engine` tells what is wrong


def gpu() -> Iterator[Check]:
    """NVIDIA devices, as the driver's own library tells them."""
    try:
        found = devices()
    except OSError as error:
        yield warn("gpu", f"the NVIDIA driver does not answer: {error}", "Check the driver.")
        return
    if found is None:
        yield ok("gpu", "none seen")
        return
    for index, device in enumerate(found):
        text = f"{index}: {device.name}, {show_bytes(device.memory_bytes)}"
        yield ok("gpu", f"{text}, driver {device.driver}; the engine does not use it yet")


def engine() -> Iterator[Check]:
    """The compiled module and the kernels it would choose."""
    try:
        module = import_module("lmrun._engine")
    except ImportError as error:
        yield fail("engine", f"does not load: {error}", f"Install lmrun again; {BUILD_IT}")
        return
    info, usable = module.build_info(), module.supported_isas()
    yield ok("kernels", f"{usable[0]} (this machine runs {', '.join(usable)})")
    found = f"{info['version']}, {info['compiler']}, compiled for {info['isas']}"
    if info["version"] == lmrun.__version__:
        yield ok("engine", found)
    else:
        advice = f"lmrun is {lmrun.__version__}: install it again."
        yield fail("engine", found, advice)


def python() -> Check:
    """The interpreter against what lmrun says it runs on."""
    wanted = metadata.metadata("lmrun")["Requires-Python"] or ""
    version = platform.python_version()
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return ok("python", version)
    return fail("python", version, f"lmrun runs on {wanted}.")


def packages(requirements: list[str]) -> Check:
    """Installed versions against the bounds that lmrun declares."""
    wrong, missing, count = [], [], 0
    for text in requirements:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            missing.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(Version(version), prereleases=True):
            wrong.append(f"{wanted.name} {version}, expected {wanted.specifier}")
    if not wrong and not missing:
        return ok("packages", f"{count}, each within its bounds")
    make = fail if missing else warn
    return make("packages", "; ".join(missing + wrong), "`pip install lmrun` mends them.")


def torch() -> Check:
    """Which build of torch the offline stages would use."""
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        advice = "The stages that quantize need it: pip install torch"
        return fail("torch", "not installed", advice)
    names = {(item.metadata["Name"] or "").lower() for item in metadata.distributions()}
    has_cuda = "+cu" in version or any(name.startswith("nvidia-cuda-runtime") for name in names)
    return ok("torch", f"{version}, {'built with CUDA' if has_cuda else 'CPU only'}")


def store() -> Iterator[Check]:
    """The store's folder and its disk."""
    home = env.home()
    try:
        with tempfile.TemporaryFile(dir=existing(home)):
            pass
    except OSError as error:
        found = f"{home}: cannot be written ({error.strerror})"
        yield fail("store", found, "Name a writable folder by LMRUN_HOME.")
        return
    found = str(home) if home.exists() else f"{home} (made when first used)"
    free = free_bytes(home)
    found += f", {show_bytes(free)} free"
    if free < LITTLE_DISK_BYTES:
        advice = "`lmrun store gc` frees what nothing needs, or name another disk by LMRUN_HOME."
        yield warn("store", found, advice)
    else:
        yield ok("store", found)


def temporary_folder() -> Check:
    """Where the sockets of a deployment lie."""
    folder = Path(tempfile.gettempdir())
    free = free_bytes(folder)
    found = f"{folder}, {show_bytes(free)} free"
    if free < LITTLE_TEMPORARY_BYTES:
        return warn("temporary folder", found, "Free some, or name another folder by TMPDIR.")
    return ok("temporary folder", found)


def hub_cache() -> Check:
    """The cache that models of the Hugging Face hub are downloaded to."""
    # costs 0.1 s of CPU, and no other verb without a hub model needs it
    from huggingface_hub import constants  # noqa: PLC0415

    folder = Path(constants.HF_HUB_CACHE)
    found = str(folder) if folder.exists() else f"{folder} (made when first used)"
    found += f", {show_bytes(free_bytes(folder))} free"
    if constants.HF_HUB_OFFLINE:
        found += "; HF_HUB_OFFLINE is set: nothing is downloaded"
    if os.access(existing(folder), os.W_OK):
        return ok("hub cache", found)
    return warn("hub cache", f"{found}; cannot be written", "Name a writable folder by HF_HOME.")


def port() -> Check:
    """The default port of the API."""
    frontend = FrontendConfig()
    try:
        ports.check("frontend.port", frontend.host, frontend.port)
    except PlanError as error:
        found, _, advice = str(error).partition(". ")
        return warn("port", found, advice)
    return ok("port", f"{frontend.port} of {frontend.host} is free")


def measured() -> Check:
    """Whether plans on this machine can estimate speed."""
    machine = this_machine().identity
    found = load_ceilings(env.home(), machine)
    if found is None:
        advice = "`lmrun doctor --measure` measures once, in some 15 s; plans then tell speed."
        return warn("ceilings", "not measured on this machine", advice)
    return ok("ceilings", f"measured {found.measured_at}")


def _available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    if meminfo.is_file():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None
