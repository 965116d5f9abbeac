"""Start an engine worker as a child process and wait until it computed a token."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from lmrun.engine import wire
from lmrun.engine.messages import EffectiveConfig, Ready, Setting
from lmrun.errors import EngineError
from lmrun.plan.engine_settings import EngineSettings

_POLL_S = 0.05
_LOG_TAIL_LINES = 5
_CHOSEN_AT_START = ("isa", "weight_memory")


@dataclass(frozen=True)
class WorkerProcess:
    """A started worker; it dies with the thread that started it."""

    process: subprocess.Popen[str]
    socket_path: Path
    log_path: Path | None
    """Where its stderr goes; None: to this process's."""

    def wait_ready(self, timeout_s: float) -> Ready:
        """Block until the first token was computed; `EngineError` with the log's end if never."""
        deadline = time.monotonic() + timeout_s
        while True:
            if (status := self.process.poll()) is not None:
                raise EngineError(f"engine: exited with status {status}.{self._log_tail()}")
            if (ready := probe(self.socket_path)) is not None:
                return ready
            if time.monotonic() > deadline:
                raise EngineError(f"engine: not ready after {timeout_s:g} s.{self._log_tail()}")
            time.sleep(_POLL_S)

    def stop(self, timeout_s: float = 5.0) -> int:
        """SIGTERM, then SIGKILL after the time; returns the exit status."""
        self.process.terminate()
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _log_tail(self) -> str:
        if self.log_path is None or not self.log_path.is_file():
            return ""
        lines = self.log_path.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        return "".join(f"\n  {line}" for line in lines)


def start_worker(
    settings: EngineSettings, *, socket_path: Path, log_path: Path | None = None
) -> WorkerProcess:
    """Spawn `python -m lmrun.engine.worker`; settings travel on stdin."""
    command = [sys.executable, "-P", "-m", "lmrun.engine.worker"]
    command += ["--socket", str(socket_path)]
    with contextlib.ExitStack() as stack:
        stderr = None if log_path is None else stack.enter_context(log_path.open("a"))
        process = subprocess.Popen(
            [*command, "--parent-pid", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
        )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(json.dumps(asdict(settings)) + "\n")
    return WorkerProcess(process, socket_path, log_path)


def probe(socket_path: Path) -> Ready | None:
    """What a worker says to a new client; None while nothing listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        try:
            stream.connect(str(socket_path))
            body = wire.read_frame(stream)
        except (OSError, EngineError):
            return None
    event = None if body is None else wire.unpack_event(body)
    return event if isinstance(event, Ready) else None


def setting_differences(
    planned: EngineSettings, effective: EffectiveConfig
) -> dict[str, tuple[Setting, Setting | None]]:
    """Setting → (planned, in force), where they differ; ``isa`` and ``weight_memory`` of `auto`
    agree with any, and equal numbers for each layer with one number for all."""
    wanted = {name: _plain(value) for name, value in asdict(planned).items()}
    got = {name: _plain(value) for name, value in effective.settings.items()}
    return {
        name: (value, got.get(name))
        for name, value in wanted.items()
        if got.get(name) != value and not (name in _CHOSEN_AT_START and value == "auto")
    }


def _plain(value: Setting | tuple[int, ...]) -> Setting:
    if isinstance(value, list | tuple):
        return value[0] if len(set(value)) == 1 else list(value)
    return value
