"""Quantize a model with another tool; run by the Python of that tool's virtual environment.

    VENV/bin/python drive.py JOB.json

The job is a JSON object: `tool`, `method`, `model` (a Hugging Face folder), `ids` (a .npy file of
token ids [sequences, tokens]), `bits`, `group_size`, `threads`, `batch_size`, `iterations`,
`layers`, `out` (the folder of the quantized checkpoint), `result` (a JSON file that is written).
"""

import ctypes
import importlib
import importlib.metadata
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOOLS = {
    "llm-compressor": ("llm_compressor", "llmcompressor"),
    "gptqmodel": ("gptq_model", "gptqmodel"),
    "auto-round": ("auto_round_tool", "auto-round"),
}
"""Name → the module beside this one, and the distribution whose version counts."""


_PR_SET_PDEATHSIG = 1
"""The kernel ends this process with its parent."""


class Clock:
    """When the layers began and ended; a tool's module calls `begin` and `end`."""

    def __init__(self) -> None:
        self._wall = 0.0
        self._cpu = 0.0
        self.wall_s = 0.0
        self.cpu_s = 0.0
        """Of this process, all threads, and of children that ended."""

    def begin(self) -> None:
        """The first layer begins."""
        self._wall, self._cpu = time.monotonic(), _cpu_s()

    def end(self) -> None:
        """The last layer ended."""
        self.wall_s += time.monotonic() - self._wall
        self.cpu_s += _cpu_s() - self._cpu


class Around:
    """A function whose calls the clock counts; put in place of the tool's own."""

    def __init__(self, clock: Clock, function: Callable[..., Any]) -> None:
        self._clock, self._function = clock, function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the tool's own
        self._clock.begin()
        try:
            return self._function(*args, **kwargs)
        finally:
            self._clock.end()

    def __get__(self, instance: Any, owner: Any = None) -> Any:  # noqa: ANN401 - a method
        if instance is None:
            return self
        return Around(self._clock, self._function.__get__(instance, owner))


def main(path: str) -> None:
    """Run one job."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.environ["GPTQMODEL_CPU_WORKERS"] = str(job["threads"])
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch = importlib.import_module("torch")
    torch.set_num_threads(job["threads"])
    name, distribution = TOOLS[job["tool"]]
    sys.path.insert(0, str(Path(__file__).parent))
    clock = Clock()
    start = time.monotonic()
    notes = importlib.import_module(name).run(job, clock, Around)
    result = {
        "tool": job["tool"],
        "version": importlib.metadata.version(distribution),
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
        "layers_s": clock.wall_s,
        "layers_cpu_s": clock.cpu_s,
        "total_s": time.monotonic() - start,
        "peak_rss_bytes": _peak_rss_bytes(),
        "notes": notes,
    }
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")


def _peak_rss_bytes() -> int:
    """As the kernel counts it for this program (`ru_maxrss` begins with that of the parent)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    main(sys.argv[1])
