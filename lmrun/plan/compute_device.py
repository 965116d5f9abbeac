"""Where calibrate, prune and quantize compute: the CPU, or a CUDA device. No torch is imported."""

import ctypes
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lmrun.config.schema import ComputeDevice
from lmrun.errors import PlanError

LIBRARY = "libcuda.so.1"
_NAME_BYTES = 96
_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""


@dataclass(frozen=True)
class Gpu:
    """The CUDA device that torch would call `cuda:0`."""

    name: str
    capability: str
    """`9.0`: floating-point results differ between them."""
    memory_bytes: int


def chosen(device: ComputeDevice) -> Gpu | None:
    """The device of `quant.device`, None for the CPU; `PlanError` where cuda cannot be had."""
    if device is ComputeDevice.cpu:
        return None
    version = torch_cuda()
    found = gpu() if version is not None else None
    if device is ComputeDevice.cuda and found is None:
        why = "no CUDA device is visible here"
        if version is None:
            why = "this torch is built without CUDA"
        raise PlanError(f"quant.device=cuda: {why}. Use quant.device=cpu.")
    return found


@cache
def torch_cuda() -> str | None:
    """Version of CUDA that torch is built for, from its text; None for a build without."""
    for place in sys.path:
        file = Path(place or ".") / "torch" / "version.py"
        if file.is_file():
            text = file.read_text(encoding="utf-8", errors="replace")
            found = re.search(r"^cuda\b[^=\n]*=\s*'([^']+)'", text, re.MULTILINE)
            return found[1] if found else None
    return None


@cache
def gpu(library: str = LIBRARY) -> Gpu | None:
    """The first device that the CUDA driver shows to this process; None without driver or device.

    CUDA_VISIBLE_DEVICES counts, as it does for torch.
    """
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return None
    count, device = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return None
    if driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    name = ctypes.create_string_buffer(_NAME_BYTES)
    driver.cuDeviceGetName(name, _NAME_BYTES, device)
    parts = [ctypes.c_int(), ctypes.c_int()]
    for part, attribute in zip(parts, (_MAJOR, _MINOR), strict=True):
        driver.cuDeviceGetAttribute(ctypes.byref(part), attribute, device)
    memory = ctypes.c_size_t()
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    capability = ".".join(str(part.value) for part in parts)
    return Gpu(name.value.decode(errors="replace"), capability, memory.value)
