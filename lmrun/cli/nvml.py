"""NVIDIA devices as NVML, the driver's library, tells them; no package is needed."""

import ctypes
from dataclasses import dataclass

LIBRARY = "libnvidia-ml.so.1"
_NAME_BYTES = 96


@dataclass(frozen=True)
class Gpu:
    """One device."""

    name: str
    memory_bytes: int
    driver: str


class _Memory(ctypes.Structure):
    _fields_ = [
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    ]


def devices(library: str = LIBRARY) -> list[Gpu] | None:
    """The devices of this machine; None where there is no driver. `OSError` when it fails."""
    try:
        nvml = ctypes.CDLL(library)
    except OSError:
        return None
    _call(nvml, "nvmlInit_v2")
    try:
        version = ctypes.create_string_buffer(_NAME_BYTES)
        _call(nvml, "nvmlSystemGetDriverVersion", version, ctypes.c_uint(_NAME_BYTES))
        count = ctypes.c_uint()
        _call(nvml, "nvmlDeviceGetCount_v2", ctypes.byref(count))
        return [_device(nvml, index, version.value.decode()) for index in range(count.value)]
    finally:
        _call(nvml, "nvmlShutdown")


def _device(nvml: ctypes.CDLL, index: int, driver: str) -> Gpu:
    handle, memory = ctypes.c_void_p(), _Memory()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _call(nvml, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
    _call(nvml, "nvmlDeviceGetName", handle, name, ctypes.c_uint(_NAME_BYTES))
    _call(nvml, "nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
    return Gpu(name.value.decode(), memory.total, driver)


def _call(nvml: ctypes.CDLL, function: str, *arguments: object) -> None:
    status = getattr(nvml, function)(*arguments)
    if status != 0:
        raise OSError(f"{function} returned {status}")
